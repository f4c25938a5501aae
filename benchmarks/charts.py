"""The charts of the documentation: start-up, cost and memory, drawn into benchmarks/charts.

    python -m benchmarks charts MODEL.onnx ... [--rounds 3]

Each says below its bars on which machine, with which versions and when it was measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import cost, start_up
from benchmarks.plots import bars
from benchmarks.tables import Table, circumstances

_FOLDER = Path(__file__).parent / "charts"
_SHOWN = ("onnx", "onnxruntime", "onnxscript", "numpy")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.proof, options.large, options.folder = True, None, None
    _FOLDER.mkdir(exist_ok=True)
    _draw(start_up.run(options)[0], 2, "start-up")
    for path, table in zip(options.models, cost.run(options), strict=True):
        size = table.title.removeprefix("cost: ")
        table.title = f"CPU time: {size}"
        _draw(table, 2, f"cost-{path.stem}")
        table.title = f"memory: {size}"
        _draw(table, 3, f"memory-{path.stem}")


def _draw(table: Table, column: int, name: str) -> None:
    print(table.markdown(), flush=True)
    drawing = bars(table, column, _note())
    assert drawing is not None, f"{table.title} holds no numbers"
    (_FOLDER / f"{name}.svg").write_text(drawing, encoding="utf-8")


def _note() -> str:
    where = circumstances()
    versions = ", ".join(f"{name} {where['versions'].get(name, 'absent')}" for name in _SHOWN)
    return f"{where['date']}; {where['processor']}, {where['cores']} cores; {versions}"


if __name__ == "__main__":
    main()
