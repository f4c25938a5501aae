"""The commands in a real terminal of 80 columns and in a pipe, line by line.

``python docs/captures.py FOLDER`` writes more of the same, to be looked at.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from situations.fold import ROOT

_GOLDEN = Path(__file__).parent / "golden"
# Nothing in these depends on a runtime's rounding.
_EXACT = (
    "inspect residual_stale_statistics.onnx --against residual.onnx",
    "rule BN403",
    "fold residul.onnx -o folded.onnx",
)
_MEASURED = (
    "fold residual.onnx -o folded.onnx",
    "verify residual_stale_statistics.onnx folded.onnx",
)


@pytest.fixture(scope="module")
def captures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("captures", ROOT / "docs" / "captures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path: Path, sample_models: Path) -> Path:
    for name in ("residual", "residual_stale_statistics"):
        shutil.copy(sample_models / f"{name}.onnx", tmp_path)
    return tmp_path


@pytest.mark.parametrize("columns", [80, None])
def test_it_is_what_was_looked_at(columns: int | None, captures: ModuleType, place: Path) -> None:
    found = "".join(f"$ bnfold {a}\n{captures.captured(a, place, columns)}\n" for a in _EXACT)
    golden = _GOLDEN / ("pipe.txt" if columns is None else f"{columns}.txt")
    assert found == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("columns", [80, None])
def test_what_was_measured_fits(columns: int | None, captures: ModuleType, place: Path) -> None:
    for arguments in _MEASURED:
        text = captures.captured(arguments, place, columns)
        lines = text.splitlines()
        assert lines and "\x1b" not in text
        assert all(line == line.rstrip() for line in lines)
        if columns is None:  # each value stands on a line of its own, its name in one piece
            assert not [line for line in lines if re.match(r" +(in channel|rounding floors)", line)]
        else:
            assert max(map(len, lines)) <= columns
    assert "compute the same" in text.replace("\n", " ")


def test_a_progress_bar_is_no_part_of_a_capture(captures: ModuleType) -> None:
    bar = "\x1b[?25l\r\x1b[2Kopening \x1b[38;5;237m━\x1b[0m\r\x1b[2Kdone\x1b[?25h\n\x1b[1A\x1b[2K"
    assert captures._without_codes(f"{bar}one\r\n  two\r\n") == "one\n  two\n"
    assert captures._without_codes(f"one\r\n{bar}two\r\n") == "one\ntwo\n"
