"""What starting costs, in multiples of `import onnx`: help, a rule, a small model.

    python -m benchmarks start-up [--rounds 7]

CPU seconds of whole processes, the smallest of several interleaved rounds: other work on the machine
only ever adds to it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.processes import ChildFailed, bnfold, python, run_once
from benchmarks.tables import Table

_MODEL = Path(__file__).parent.parent / "sample_models" / "residual.onnx"
_UNIT = "import onnx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7)


def run(options: argparse.Namespace) -> list[Table]:
    rows = {
        "python": python("pass"),
        _UNIT: python("import onnx"),
        "import numpy": python("import numpy"),
        "import bnfold": python("import bnfold"),
        "bnfold --help": bnfold("--help"),
        "bnfold fold --help": bnfold("fold", "--help"),
        "bnfold rule BN101": bnfold("rule", "BN101"),
        "bnfold inspect residual.onnx": bnfold("inspect", _MODEL),
    }
    least = dict.fromkeys(rows, float("inf"))
    for _ in range(options.rounds):
        for name, command in rows.items():
            try:
                least[name] = min(least[name], run_once(command).cpu)
            except ChildFailed as error:
                raise SystemExit(f"{name}: {error}") from None
    table = Table("start-up", ("", "CPU s", f"x {_UNIT}"))
    for name, seconds in least.items():
        table.add(name, seconds, seconds / least[_UNIT])
    return [table]
