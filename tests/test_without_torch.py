"""Where torch is not installed: everything on ONNX files works, and a PyTorch model says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from situations.fold import ROOT

SAMPLES = ROOT / "sample_models"
HIDDEN = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in ("torch", "onnxscript", "safetensors")
        return None if hidden else self.finder.find_spec(name, path, target)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
from bnfold.cli import main
main()
"""


def run(*arguments: str | Path, place: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HIDDEN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=place, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", SAMPLES / "preact.onnx"],
        ["fold", SAMPLES / "residual.onnx", "-o", "folded.onnx"],
        ["verify", SAMPLES / "residual.onnx", SAMPLES / "residual.onnx"],
        [
            "recalibrate",
            SAMPLES / "residual_stale_statistics.onnx",
            "--data",
            SAMPLES / "digits_calibration.npz",
            "--samples=32",
            "-o",
            "new.onnx",
        ],
        ["rule", "BN101"],
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_onnx_files_need_no_torch(arguments: list[str | Path], tmp_path: Path) -> None:
    outcome = run(*arguments, place=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout and not outcome.stderr


@pytest.mark.parametrize("name", ["weights.pth", "mynet.py:make", "weights.safetensors"])
@pytest.mark.parametrize("verb", ["inspect", "fold"])
def test_a_pytorch_model_says_what_to_install(verb: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "weights.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "mynet.py").write_text("import torch\n")
    before = sorted(tmp_path.iterdir())
    outcome = run(verb, name, *(["-o", "out.pt2"] if verb == "fold" else []), place=tmp_path)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert "pip install 'bnfold[torch]'" in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before
