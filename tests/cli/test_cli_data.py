"""``--data`` at the command line: one sample serves every command, and a tracer as well."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from situations.command import Command
from situations.fold import ROOT

torch = pytest.importorskip("torch")

NETWORK = """
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.bn.running_mean.uniform_(-1, 1)
    def forward(self, picture, gain=None):
        return self.bn(self.conv(picture)).relu().mean((2, 3))

class AnyNumber(nn.Module):
    def forward(self, *inputs):
        return sum(inputs)

def loader():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(2, 3, (20, 3, 8, 8)).astype(np.float32))
    labels = torch.arange(20)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=8)
"""


@pytest.fixture
def place(command: Command, tmp_path: Path) -> Path:
    """The folder of the commands, with a factory and the same pictures in several forms."""
    (tmp_path / "mynet.py").write_text(NETWORK)
    pictures = np.random.default_rng(0).integers(0, 256, (6, 10, 12, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    values = np.random.default_rng(1).normal(size=(6, 3, 8, 8))
    np.savez(tmp_path / "named.npz", picture=values, label=np.arange(6))
    np.save(tmp_path / "plain.npy", values)
    return tmp_path


@pytest.mark.parametrize(
    "data",
    [
        ["named.npz"],
        ["plain.npy"],
        ["mynet.py:loader"],
        ["photos", "--image-size", "8x8", "--mean", "0.5", "--std", "0.25"],
    ],
    ids=lambda data: data[0],
)
def test_data_in_place_of_input(data: list[str], place: Path, command: Command) -> None:
    outcome = command("fold", "mynet.py:Net", "-o", "out.pt2", "--data", *data, "-f", "json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["predicted"]["batch_norms_left"] == 0
    assert data[0] in found["verification"]["inputs"]
    program: Any = torch.export.load(place / "out.pt2")
    assert program.module()(torch.randn(5, 3, 8, 8)).shape == (5, 4)


def test_recalibrate_a_factory_from_a_loader(place: Path, command: Command) -> None:
    outcome = command("recalibrate", "mynet.py:Net", "--data", "mynet.py:loader", "-o", "new.pth")
    assert outcome.code == 0, outcome.err
    weights = ["--weights", "new.pth"]
    outcome = command(
        "inspect", "mynet.py:Net", *weights, "--data", "mynet.py:loader", "-f", "json"
    )
    (norm,) = json.loads(outcome.out)["batch_norms"]
    assert norm["drift"]["mean_shift"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mynet.py:Net"], "--input 1x3x224x224, or --data"),
        (["mynet.py:Net", "--data", "photos"], "say which with --image-size"),
        (["mynet.py:AnyNumber", "--data", "plain.npy"], "give each with --input"),
        (["mynet.py:Net", "--data", "absent.npy"], "absent.npy does not exist"),
    ],
)
def test_what_is_missing_is_said(
    arguments: list[str], sentence: str, place: Path, command: Command
) -> None:
    outcome = command("inspect", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert sentence in outcome.err


def test_a_folded_checkpoint_beside_its_own(place: Path, command: Command) -> None:
    shape = ["--input", "1x3x8x8"]
    folded = ["-o", "folded.pth", "--keep-modules"]
    assert command("fold", "mynet.py:Net", *shape, *folded).code == 0
    candidate = ["mynet.py:Net", "--candidate-weights", "folded.pth"]
    assert command("verify", "mynet.py:Net", *candidate, *shape).code == 0
    assert command("fold", "mynet.py:Net", *shape, "-o", "folded.onnx").code == 0
    assert command("verify", "mynet.py:Net", "folded.onnx", *shape).code == 0
    outcome = command("verify", "folded.onnx", "mynet.py:Net", *shape)
    assert outcome.code == 0, outcome.out


def test_image_options_in_every_command(place: Path, command: Command) -> None:
    model = str(ROOT / "sample_models" / "residual.onnx")
    wanted = ["--data", "photos", "--mean", "0.5", "--std", "0.25", "--samples", "4"]
    for verb in (
        ["inspect", model],
        ["fold", model, "-o", "f.onnx"],
        ["verify", model, model],
        ["recalibrate", model, "-o", "r.onnx"],
    ):
        outcome = command(*verb, *wanted, "-f", "json")
        assert outcome.code in (0, 1) and json.loads(outcome.out), outcome.err
        outcome = command(*verb, *wanted, "--color", "cmyk")
        assert outcome.code == 2 and "--color is one of" in outcome.err


@pytest.mark.parametrize(
    ("model", "flags", "sentence"),
    [
        ("mynet.py:Net", ["--device", "cuda"], "torch cannot use the device cuda here"),
        ("mynet.py:Net", ["--device", "abacus"], "torch cannot use the device abacus here"),
        ("mynet.py:Net", ["--provider", "CUDAExecutionProvider"], "runs with --device"),
        ("model.onnx", ["--device", "cuda"], "runs with --provider"),
        ("model.onnx", ["--provider", "AbacusProvider"], "onnxruntime has no AbacusProvider here"),
    ],
)
def test_a_runtime_that_is_not_there(
    model: str, flags: list[str], sentence: str, place: Path, command: Command
) -> None:
    if flags[-1] == "cuda" and torch.cuda.is_available():
        pytest.skip("there is such a device")
    data = ["--data", "plain.npy"]
    target = "out.onnx" if model.endswith(".onnx") else "out.pt2"
    outcome = command("recalibrate", model, *data, "-o", target, *flags)
    assert (outcome.code, outcome.out) == (2, "")
    assert sentence in outcome.err and not (place / target).exists()


@pytest.mark.parametrize("kind", ["a pipe", "a link", "a link to nothing"])
@pytest.mark.parametrize("verb", ["fold", "recalibrate"])
def test_what_is_no_ordinary_file_is_not_replaced(
    verb: str, kind: str, place: Path, command: Command
) -> None:
    target, real = place / "out.onnx", place / "real.onnx"
    if kind == "a pipe":
        os.mkfifo(target)
    else:
        target.symlink_to(real)
        if kind == "a link":
            real.write_text("as it was")
    before = target.lstat()
    data = str(ROOT / "sample_models" / "digits_calibration.npz")
    model = str(ROOT / "sample_models" / "residual.onnx")
    outcome = command(verb, model, "--data", data, "--samples", "8", "-o", "out.onnx")
    assert (outcome.code, outcome.out) == (2, "")
    assert "no ordinary file" in outcome.err or "is a link" in outcome.err
    after = target.lstat()
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)
    assert not real.exists() or real.read_text() == "as it was"


def test_what_an_evaluation_prints_is_not_the_report(place: Path, command: Command) -> None:
    (place / "score.py").write_text(
        "def score(path):\n    print('scoring', path)\n    return 1.0\n"
    )
    data = str(ROOT / "sample_models" / "digits_calibration.npz")
    model = str(ROOT / "sample_models" / "residual.onnx")
    wanted = ["--data", data, "--samples", "8", "-o", "o.onnx", "--evaluate", "score.py:score"]
    outcome = command("recalibrate", model, *wanted, "-f", "json")
    assert outcome.code == 0 and json.loads(outcome.out)["evaluation"]["after"] == 1.0
    assert outcome.err.count("scoring") == 2


@pytest.mark.parametrize("suffix", [".pt2", ".pth", ".txt", ""])
def test_an_onnx_model_is_written_under_its_own_suffix(
    suffix: str, place: Path, command: Command
) -> None:
    outcome = command("fold", "model.onnx", "-o", f"out{suffix}")
    assert (outcome.code, outcome.out) == (2, "")
    assert "is written as .onnx" in outcome.err and not (place / f"out{suffix}").exists()


def test_a_blend_is_not_called_agreement(place: Path, command: Command) -> None:
    model = str(ROOT / "sample_models" / "residual_stale_statistics.onnx")
    data = str(ROOT / "sample_models" / "digits_calibration.npz")
    wanted = ["--data", data, "--samples", "32", "-o", "o.onnx"]
    outcome = command("recalibrate", model, *wanted, "--prior", "16")
    assert outcome.code == 0 and "blended as asked" in outcome.out
    assert "stored and observed statistics agree" not in outcome.out


def test_a_copy_is_called_a_copy(place: Path, command: Command) -> None:
    outcome = command("fold", "kept.onnx", "-o", "copy.onnx", "-f", "json")
    assert outcome.code == 0
    assert any("is a copy of the original" in note for note in json.loads(outcome.out)["notes"])
    shown = command("fold", "kept.onnx", "-o", "copy.onnx", "--force").out
    assert "as in the original, a copy" in shown and "no difference could show" not in shown
    outcome = command("fold", "model.onnx", "-o", "folded.onnx", "-f", "json")
    assert not any("copy" in note for note in json.loads(outcome.out)["notes"])
    assert "a copy" not in command("fold", "model.onnx", "-o", "folded.onnx", "--force").out


def test_modules_that_are_kept_are_counted(place: Path, command: Command) -> None:
    shape = ["--input", "1x3x8x8", "-f", "json"]
    outcome = command("fold", "mynet.py:Net", *shape, "-o", "kept.pth", "--keep-modules")
    counts = json.loads(outcome.out)["output"]
    assert counts["nodes_after"] == counts["nodes_before"] and counts["batch_norms_left"] == 1
    outcome = command("fold", "mynet.py:Net", *shape, "-o", "gone.pth")
    counts = json.loads(outcome.out)["output"]
    assert counts["nodes_after"] < counts["nodes_before"] and counts["batch_norms_left"] == 0
