"""How many BatchNorm are left in torchvision and timm architectures, as a Markdown table.

    pip install 'bnfold[torch]' torchao aimet-torch && pip install --no-deps torchvision timm
    python -m benchmarks.coverage_torch [--results FILE] [NAME ...] > table.md

Without names: the two smallest members of every family that has BatchNorm (torch_networks.py).
Every result is checked in float64, where only exactness counts: its outputs may differ from the
original's by 1e-9 of their range. Beside bnfold stand the peers of torch_peers.py that are
installed, on the same networks.

``--stub FOLDER`` names a folder with a ``tvstub.py`` that makes torchvision importable beside a
torch without its C++ operators. ``--results FILE`` keeps what was measured and goes on from there.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.constraints import constraints, table, told
from benchmarks.torch_networks import built, chosen
from benchmarks.torch_peers import PEERS, count_batch_norms

LIMIT = 1e-9
TIMEOUT = 900
MERGED = "with `--reparameterize`"
COLUMNS = [*PEERS, "bnfold", MERGED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as timm/levit_128s")
    parser.add_argument("--stub", default="", help="folder of tvstub.py")
    parser.add_argument("--results", type=Path, help="JSON lines, read and added to")
    parser.add_argument("--jobs", type=int, default=1, help="architectures at a time")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stub:
        sys.path.insert(0, arguments.stub)
        __import__("tvstub")
    if arguments.one:
        print(json.dumps(measured(arguments.names[0])))
        return
    names = arguments.names or chosen()
    kept = known(arguments.results)
    todo = [name for name in names if name not in kept]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for done in pool.map(partial(in_process, stub=arguments.stub), todo):
            kept[done["name"]] = done
            print(f"{len(kept)}/{len(names)}", json.dumps(done), file=sys.stderr, flush=True)
            if arguments.results:
                with arguments.results.open("a") as file:
                    print(json.dumps(done), file=file)
    show([kept[name] for name in names])


def known(results: Path | None) -> dict[str, dict[str, Any]]:
    """What an earlier run has measured, by architecture."""
    if results is None or not results.exists():
        return {}
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    return {line["name"]: line for line in lines}


def in_process(name: str, stub: str) -> dict[str, Any]:
    """One architecture, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.coverage_torch", "--one", "--stub", stub, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return {"name": name, "failed": "timeout"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"name": name, "failed": last[:200]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def show(results: list[dict[str, Any]]) -> None:
    """The rows that say something, most BatchNorm left first, and the totals of all."""
    print(f"| architecture | BN | {' | '.join(COLUMNS)} | error (float64) | left, why |")
    print("|---|" + "--:|" * (len(COLUMNS) + 2) + "---|")
    good = [result for result in results if "failed" not in result]
    for result in sorted(good, key=lambda r: -r["left"]["bnfold"]):
        if result["left"]["bnfold"] or result["wrong"]:
            print(row(result))
    totals: Counter[str] = Counter()
    for result in good:
        totals.update(BN=result["before"], done=1)
        totals.update(result["left"])
    sums = " | ".join(str(totals[column]) for column in ("BN", *COLUMNS))
    print(f"| **left in all {totals['done']}** | {sums} | | |")
    crashed = [sum(column in r["crashed"] for r in good) for column in COLUMNS]
    wrong = [sum(column in r["wrong"] for r in good) for column in COLUMNS]
    for title, counts in (("crashed on", crashed), ("wrong on", wrong)):
        print(f"| **{title}** | | {' | '.join(map(str, counts))} | | |")
    for result in results:
        if "failed" in result:
            print(f"\n{result['name']} failed: {result['failed']}")
    versions = {peer.package: peer.version or "missing" for peer in PEERS.values()}
    print("\n" + ", ".join(" ".join(item) for item in versions.items()))
    print("\n" + table(r["constraints"] for r in good) + "\n")
    print(f"Largest error of bnfold: {max((r['error'] for r in good), default=0):.0e}")


def row(result: dict[str, Any]) -> str:
    cells = []
    for column in COLUMNS:
        left = result["left"].get(column, "")
        cells.append("crashed" if column in result["crashed"] else str(left))
        if column in result["wrong"]:
            cells[-1] += f" (wrong by {result['wrong'][column]:.0e})"
    counts, why = " | ".join(cells), told(result["constraints"])
    return f"| {result['name']} | {result['before']} | {counts} | {result['error']:.0e} | {why} |"


def measured(name: str) -> dict[str, Any]:
    """BN before and left, what was wrong and by how much, and what crashed, by tool."""
    import torch

    from bnfold.formats import format_of
    from bnfold.formats.torch import open_module
    from bnfold.planning import make_plan

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    module, example = built(name)
    before = count_batch_norms(module, example)
    with torch.no_grad():
        reference = module(example)
    model = open_module(module, (example,))
    left, errors, crashed = {}, {}, {}
    for column, reparameterize in (("bnfold", False), (MERGED, True)):
        plan = make_plan(model.graph, reparameterize=reparameterize)
        assert len(plan.batch_norms) == before, f"{len(plan.batch_norms)} of {before} seen"
        folded = format_of(model).edit(model, plan).module()
        left[column], errors[column] = outcome(folded, example, reference)
        assert left[column] == plan.kept, f"{left[column]} left, not {plan.kept}"
        if not reparameterize:
            kept = constraints(d.reason.to_json() for d in plan.batch_norms if d.reason)
    for peer in (each for each in PEERS if PEERS[each].version):
        try:
            result = PEERS[peer].fold(copy.deepcopy(module), (example,), {})
            left[peer], errors[peer] = outcome(result, example, reference)
        except Exception as error:  # peers fail in many ways
            left[peer], crashed[peer] = before, f"{type(error).__name__}: {str(error)[:200]}"
    return {
        "name": name,
        "before": before,
        "left": left,
        "error": max(errors["bnfold"], errors[MERGED]),
        "wrong": {column: error for column, error in errors.items() if not error <= LIMIT},
        "crashed": crashed,
        "constraints": dict(kept),
        "notes": model.notes,
        "shape": list(example.shape),
    }


def outcome(network: Any, example: Any, reference: Any) -> tuple[int, float]:
    """BN that a network calls, and its largest difference, relative to the range of each output."""
    import torch
    from torch.utils import _pytree as pytree

    with torch.no_grad():
        outputs = network(example)
    pairs = zip(pytree.tree_leaves(reference), pytree.tree_leaves(outputs), strict=True)
    error = max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-300)) for a, b in pairs)
    return count_batch_norms(network, example), error


if __name__ == "__main__":
    main()
