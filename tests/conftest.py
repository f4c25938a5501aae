"""What the tests share: folded situations, and real networks where they are at hand."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import hypothesis
import pytest

from bnfold import cli
from situations import BY_NAME
from situations.build import Net
from situations.command import Command, Outcome
from situations.fold import ROOT, Folder, save

# A shell starts jobs in the background with Ctrl-C ignored, which the commands under test would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("default", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=4000)
hypothesis.settings.load_profile(os.environ.get("BNFOLD_HYPOTHESIS", "default"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("situations"))


@pytest.fixture(scope="session")
def sample_models() -> Path:
    return ROOT / "sample_models"


@pytest.fixture(scope="session")
def real_models() -> Path:
    """Trained networks from public repositories: too large and too foreign to be part of this one."""
    place = Path(os.environ.get("BNFOLD_REAL_MODELS", ROOT.parent / "shared" / "models"))
    if not place.is_dir():
        pytest.skip(f"no real models at {place}; BNFOLD_REAL_MODELS names their folder")
    return place


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs ``bnfold ...`` in a folder that holds a few models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BNFOLD_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    for name, situation in {
        "model": "conv_2d", "kept": "pre_activation", "frozen": "initializers_as_inputs_ir_8_bn.scale_of_6",
        "half": "half_precision", "affine": "affine_mul_add", "written_out": "frozen_batch_norm",
    }.items():  # fmt: skip
        save(BY_NAME[situation].build(), tmp_path / f"{name}.onnx")
    net = Net()
    save(net.model(net.relu(net.input("N", 4, "H", "W"))), tmp_path / "none.onnx")

    def call(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["bnfold", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
