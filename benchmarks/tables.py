"""Tables of measurements: printed as Markdown, kept as JSON, with the machine and the versions."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

Cell = str | float | int
_PACKAGES = ("bnfold", "numpy", "onnx", "onnxruntime", "onnxscript", "onnxslim", "onnxsim", "torch")


@dataclass
class Table:
    """A title, the heads of the columns, and rows whose first cell is a name."""

    title: str
    heads: Sequence[str]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        self.rows.append(cells)

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "heads": list(self.heads),
            "rows": [list(r) for r in self.rows],
        }

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", _line(self.heads)]
        lines.append("|---|" + "--:|" * (len(self.heads) - 1))
        return "\n".join(lines + [_line(row) for row in self.rows]) + "\n"


def _line(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join(_text(cell) for cell in cells) + " |"


def _text(cell: Cell) -> str:
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def circumstances() -> dict[str, Any]:
    """The machine and the versions that a measurement was made with."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": _cores(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": versions,
    }


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
