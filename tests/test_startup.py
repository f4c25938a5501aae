"""The command line as a process: signals, closed and full streams, files that change meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from bnfold.cli import streams
from situations.fold import ROOT

_MODEL = ROOT / "sample_models" / "residual.onnx"
_DATA = ROOT / "sample_models" / "digits_calibration.npz"


def _start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bnfold", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, text=True, env=environment, encoding="utf-8", **streams)


def _run(*arguments: object, **options: Any) -> tuple[int, str, str]:
    with _start(*arguments, **options) as process:
        out, error = process.communicate(timeout=60)
    return process.returncode, out or "", error or ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device here")
def test_a_report_that_cannot_be_printed(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    with open("/dev/full", "w") as full:
        code, _, error = _run("fold", _MODEL, "-o", out, stdout=full)
        assert code == 0 and f"but {out} was written" in error and error.count("\n") == 1
        code, _, error = _run("inspect", _MODEL, stdout=full)
        assert code == 2 and "No space left" in error and error.count("\n") == 1
    onnx.checker.check_model(out)


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    reading, writing = os.pipe()
    os.close(reading)
    code, _, error = _run("fold", _MODEL, "-o", out, stdout=writing)
    assert code == 0 and f"but {out} was written" in error
    assert _run("inspect", _MODEL, stdout=writing)[::2] == (0, "")
    os.close(writing)


@pytest.mark.skipif(os.name != "posix", reason="a shell is needed")
def test_closed_streams(tmp_path: Path) -> None:
    """The file that is opened next must not become stdout."""
    out = tmp_path / "out.onnx"
    line = f'exec "{sys.executable}" -m bnfold fold "{_MODEL}" -o "{out}" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, check=False)
    assert done.returncode == 0
    onnx.checker.check_model(out)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_another_encoding(encoding: str, tmp_path: Path) -> None:
    code, out, error = _run(
        "fold", _MODEL, "-o", tmp_path / "out.onnx", env={"PYTHONIOENCODING": encoding}
    )
    assert (code, error) == (0, "")
    assert "folds ^ /stem/conv/Conv" in out


def test_every_character_of_the_reports_has_a_plain_form() -> None:
    places = [ROOT / "bnfold" / room for room in ("audit", "cli", "jobs", "planning", "proof")]
    files = [
        *(ROOT / "bnfold" / "reports").glob("*.py"),
        *(f for p in places for f in p.rglob("*.py")),
    ]
    used = {c for f in files for c in f.read_text(encoding="utf-8") if not c.isascii()}
    assert "↕" in used and used <= set(streams._PLAIN)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_among_the_imports(number: signal.Signals, tmp_path: Path) -> None:
    """Sent as soon as bnfold's own code runs, which is long before anything is imported."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Tell:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'bnfold.cli.parsing':\n"
        "            print('importing', flush=True)\n"
        "            __import__('time').sleep(5)\n"
        "sys.meta_path.insert(0, Tell())\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    with _start("fold", _MODEL, "-o", tmp_path / "out.onnx", env={"PYTHONPATH": path}) as process:
        assert process.stdout is not None and process.stdout.readline() == "importing\n"
        process.send_signal(number)
        out, error = process.communicate(timeout=20)
    assert process.returncode == 128 + number and not out
    assert error.startswith("bnfold: ") and error.count("\n") == 1


@pytest.mark.parametrize("change", ["cut", "replaced"])
def test_a_model_that_changes_meanwhile(change: str, tmp_path: Path) -> None:
    """No crash (a mapped file that is cut is a bus error), no mixture, no output."""
    model, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    model.write_bytes(_MODEL.read_bytes())
    (tmp_path / "slow.py").write_text(
        "import time, numpy as np\n"
        "def images():\n"
        "    print('reading', flush=True)\n"
        "    time.sleep(1)\n"
        "    yield np.zeros((16, 1, 8, 8), np.float32)\n"
    )
    with _start("fold", model, "-o", out, "--data", f"{tmp_path / 'slow.py'}:images") as process:
        assert process.stdout is not None and process.stdout.readline() == "reading\n"
        if change == "cut":
            os.truncate(model, 5000)
        else:
            other = tmp_path / "other"
            other.write_bytes((ROOT / "sample_models" / "preact.onnx").read_bytes())
            other.replace(model)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 2 and not out.exists(), error
    assert error.startswith("bnfold: ") and error.count("\n") == 1
