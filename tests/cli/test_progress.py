"""What is being done is shown from the start, stage by stage, on a terminal's stderr and nowhere else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from situations.command import Command
from situations.fold import ROOT

_MODEL = ROOT / "sample_models" / "residual.onnx"
_DATA = ["--data", str(ROOT / "sample_models" / "digits_calibration.npz"), "--samples", "64"]
_STAGES = {
    "inspect": (["inspect", _MODEL], ["opening", "planning", "auditing"]),
    "inspect data": (
        ["inspect", _MODEL, *_DATA],
        ["opening", "planning", "reading the data", "observing", "auditing"],
    ),
    "fold": (
        ["fold", _MODEL, "-o", "o.onnx"],
        [
            *("opening", "planning", "writing", "reading back", "making inputs"),
            *("running the original", "comparing the files", "proving piece by piece"),
            *("running the other", "comparing"),
        ],
    ),
    "verify": (
        ["verify", _MODEL, _MODEL],
        ["opening", "making inputs", "running the reference", "running the other", "comparing"],
    ),
    "recalibrate": (
        ["recalibrate", _MODEL, "-o", "o.onnx", *_DATA],
        ["opening", "planning", "reading the data", "measuring", "writing", "checking"],
    ),
}


@pytest.mark.parametrize("name", _STAGES)
def test_every_stage_is_told(name: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Bar:
        def __init__(self, **_: object) -> None: ...

        def __enter__(self) -> object:
            return lambda stage, done, total: told.append(stage) if 0 <= done <= total else None

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("bnfold.cli.progress.progress_bar", Bar)
    arguments, stages = _STAGES[name]
    command(*arguments)
    assert list(dict.fromkeys(told)) == stages


@pytest.mark.skipif(os.name != "posix", reason="no terminal to be had")
@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_shows_them(quiet: bool, tmp_path: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    words = ["fold", str(_MODEL), "-o", str(tmp_path / "o.onnx"), *(["-q"] if quiet else [])]
    with subprocess.Popen(
        [sys.executable, "-m", "bnfold", *words], stderr=follower, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"},
    ) as process:  # fmt: skip
        os.close(follower)
        shown = b""
        while piece := _read(leader):
            shown += piece
        out = process.stdout.read() if process.stdout else b""
    os.close(leader)
    stages = {stage for stage in _STAGES["fold"][1] if re.search(stage.encode(), shown)}
    assert stages == (set() if quiet else set(_STAGES["fold"][1]))
    assert b"\x1b" not in out and (b"folds" in out) != quiet


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 1 << 16)
    except OSError:  # the other side has gone
        return b""
