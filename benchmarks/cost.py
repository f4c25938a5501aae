"""What folding costs beside other tools on the same files: CPU seconds, peak memory.

    python -m benchmarks cost [MODEL.onnx ...] [--rounds 3] [--large GIGABYTES] [--proof]

Every row is a process of its own, imports included, on one thread. The limits stand in the same
table: copying the bytes, and `onnx.load` with `onnx.save`. *BASIC* is onnxruntime's offline
optimisation of that level. Without models VGG16-BN is made; ``--large`` makes one of external data.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import tables
from benchmarks.made_networks import large_convolutions, vgg16_bn
from benchmarks.processes import Cost, bnfold, compare, python

_COPY = """
import glob, shutil, sys
for name in glob.glob(sys.argv[1] + "*"):
    shutil.copyfile(name, sys.argv[2] + name[len(sys.argv[1]):])
"""
_LOAD_SAVE = "import onnx, sys; m = onnx.load(sys.argv[1]); onnx.save(m, sys.argv[2]{})"
_EXTERNAL = ", save_as_external_data=True, location='out.data'"
_IR = """
import sys
import onnx_ir as ir
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import _fuse_batchnorm as rules
model = rewrite(ir.load(sys.argv[1]), pattern_rewrite_rules=rules.rules)
ir.save(model, sys.argv[2]{})
"""
_IR_EXTERNAL = ", external_data='out.data'"
_BASIC = """
import sys
import onnxruntime as r
o = r.SessionOptions()
o.optimized_model_filepath, o.log_severity_level, o.intra_op_num_threads = sys.argv[2], 4, 1
o.graph_optimization_level = r.GraphOptimizationLevel.ORT_ENABLE_BASIC
if {}:
    o.add_session_config_entry("session.optimized_model_external_initializers_file_name", "out.data")
r.InferenceSession(sys.argv[1], o, providers=["CPUExecutionProvider"])
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=float, help="gigabytes of external data")
    parser.add_argument("--proof", action="store_true", help="a fold with its proof as well")
    parser.add_argument("--folder", type=Path, help="where models and outputs are written")


def run(options: argparse.Namespace) -> list[tables.Table]:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        models = list(options.models)
        if options.large:
            models.append(large_convolutions(Path(folder) / "large.onnx", options.large))
        if not models:
            models.append(vgg16_bn(Path(folder) / "vgg16_bn.onnx"))
        return [_table(path, Path(folder), options) for path in models]


def _table(path: Path, folder: Path, options: argparse.Namespace) -> tables.Table:
    data = path.with_name(f"{path.name}.data")
    size = path.stat().st_size + (data.stat().st_size if data.exists() else 0)
    rows = _rows(path, folder / "out", external=data.exists(), proof=options.proof)
    found = compare(rows, options.rounds)
    basic = found["onnxruntime BASIC, offline"]
    unit = basic.cpu if isinstance(basic, Cost) else None
    table = tables.Table(
        f"cost: {path.stem}, {size / 1e6:,.0f} MB",
        ("", "CPU s", "x BASIC", "peak MB", "x file"),
    )
    for name, cost in found.items():
        if isinstance(cost, str):
            table.add(name, "failed", "", "", cost[:60])
            continue
        relative = "" if unit is None else cost.cpu / unit
        table.add(name, cost.cpu, relative, round(cost.megabytes), cost.peak / size)
    return table


def _rows(path: Path, folder: Path, *, external: bool, proof: bool) -> dict[str, list[str]]:
    folder.mkdir(exist_ok=True)
    target = folder / "out.onnx"
    fold = bnfold("fold", path, "-o", target, "--force")
    rows = {
        "copying": python(_COPY, path, target),
        "onnx.load, onnx.save": python(
            _LOAD_SAVE.format(_EXTERNAL if external else ""), path, target
        ),
        "onnxruntime BASIC, offline": python(_BASIC.format(external), path, target),
        "onnxscript's ir, BatchNorm rules": python(
            _IR.format(_IR_EXTERNAL if external else ""), path, target
        ),
        "bnfold fold --no-verify": [*fold, "--no-verify"],
    }
    return rows | ({"bnfold fold, proved": fold} if proof else {})
