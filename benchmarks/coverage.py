"""How many BatchNorm each tool removes from the same ONNX files, as a Markdown table.

    pip install 'bnfold[bench]'
    python -m benchmarks.coverage FOLDER_OR_FILE ... > table.md

Only what a tool writes as a portable file counts: nodes of other domains disqualify a result, a file
that onnxruntime cannot load counts as a failure. bnfold verifies each fold; the table says how far
the outputs moved relative to the rounding floor, and why what is left is left.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

from benchmarks.constraints import constraints, table, told

PEERS = {
    "onnxslim": "import onnxslim; onnxslim.slim(source, target)",
    "onnxsim": "import onnx, onnxsim; onnx.save(onnxsim.simplify(onnx.load(source))[0], target)",
    "onnxscript": (
        "import onnx, onnxscript.optimizer as o; onnx.save(o.optimize(onnx.load(source)), target)"
    ),
    "ort BASIC": (
        "import onnxruntime as r; o = r.SessionOptions(); o.optimized_model_filepath = target; "
        "o.log_severity_level = 4; "
        "o.graph_optimization_level = r.GraphOptimizationLevel.ORT_ENABLE_BASIC; "
        "r.InferenceSession(source, o, providers=['CPUExecutionProvider'])"
    ),
}
TIMEOUT = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    arguments = parser.parse_args()
    files = [
        f for p in arguments.paths for f in ([p] if p.is_file() else sorted(p.rglob("*.onnx")))
    ]
    print(
        "| file | BN | " + " | ".join(arguments.peers) + " | bnfold | error / floor | left, why |"
    )
    print("|---|--:|" + "--:|" * (len(arguments.peers) + 2) + "---|")
    totals: collections.Counter[str] = collections.Counter()
    found: list[collections.Counter[str]] = []
    for file in files:
        before = count(onnx.load(file, load_external_data=False).graph)
        if not before:
            continue
        left = {name: run_peer(PEERS[name], file) for name in arguments.peers}
        ours, ratio, kept = run_bnfold(file)
        found.append(kept)
        left["bnfold"] = ours
        totals["BN"] += before
        for name, number in left.items():
            totals[name] += before if number is None else number
        cells = [("failed" if n is None else str(n)) for n in left.values()]
        print(
            f"| {file.stem} | {before} | {' | '.join(cells)} | {ratio} | {told(kept)} |", flush=True
        )
    left_in_all = " | ".join(str(totals[name]) for name in [*arguments.peers, "bnfold"])
    print(f"| **left in all** | {totals['BN']} | {left_in_all} | | |")
    print("\n" + table(found))


def run_peer(code: str, file: Path) -> int | None:
    """BatchNorm left by another tool, None where it fails or writes no portable file."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.onnx"
        program = f"source, target = {str(file)!r}, {str(target)!r}\n{code}"
        try:
            done = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode or not target.exists():
            return None
        model = onnx.load(target, load_external_data=False)
        portable = all(node.domain in ("", "ai.onnx") for node in model.graph.node)
        return count(model.graph) if portable else None


def run_bnfold(file: Path) -> tuple[int | None, str, collections.Counter[str]]:
    """BatchNorm left, the largest error over the rounding floor, and what keeps those."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.onnx"
        command = [sys.executable, "-m", "bnfold", "fold", str(file), "-o", str(target)]
        command += ["--format", "json", "--freeze-initializers"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        if done.returncode:
            print(f"{file.stem}: {done.stderr.strip()[:80]}", file=sys.stderr)
            return None, "", collections.Counter()
        report = json.loads(done.stdout)
        outputs = report["verification"]["outputs"]
        ratio = max((o["ratio"] or 0.0 for o in outputs), default=0.0)
        kept = constraints(d["reason"] for d in report["decisions"] if d["action"] == "keep")
        left = count(onnx.load(target, load_external_data=False).graph)
        return left, f"{ratio:.2f}", kept


def count(graph: onnx.GraphProto) -> int:
    """BatchNormalization nodes, those in bodies included."""
    total = 0
    for node in graph.node:
        total += node.op_type == "BatchNormalization"
        for attribute in node.attribute:
            total += sum(count(g) for g in [attribute.g, *attribute.graphs] if g.node)
    return total


if __name__ == "__main__":
    main()
