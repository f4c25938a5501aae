"""An option that does not apply is refused, and what was assumed of the data is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from situations.build import Net
from situations.command import Command, files_in, is_one_sentence
from situations.fold import save

_REFUSED = {
    # without --data
    "inspect model.onnx --samples 3": "--samples goes with --data",
    "inspect model.onnx --shuffle": "--shuffle goes with --data",
    "inspect model.onnx --mask m": "--mask goes with --data",
    "inspect model.onnx --threads 1": "--threads goes with --data",
    "fold model.onnx -o out.onnx --mean 0.5": "--mean goes with --data",
    "fold model.onnx -o out.onnx --no-size-limit": "--no-size-limit goes with --data",
    "verify model.onnx model.onnx --seed 1": "--seed goes with --data",
    # with data of another kind
    "inspect model.onnx --data x.npy --mean 0.5": "--mean is for images, and x.npy holds none",
    "inspect model.onnx --data x.npy --image-size 8": "--image-size is for images",
    "verify model.onnx model.onnx --data x.npy --color rgb": "--color is for images",
    "fold model.onnx -o out.onnx --data arrays --std 1": "--std is for images, and arrays holds none",
    "recalibrate model.onnx -o out.onnx --data data.py:rows --layout NCHW": "--layout is for images",
    "recalibrate model.onnx -o out.onnx --data x.npy --seed 1": "--seed goes with --shuffle",
    "recalibrate model.onnx -o out.onnx --data x.npy --max-drop 1": "--max-drop goes with --evaluate",
    "fold model.onnx --dry-run --data x.npy": "--dry-run compares nothing",
    "fold model.onnx -o out.onnx --no-verify --data x.npy": "--no-verify compares nothing",
    # models of the other kind
    "fold model.onnx -o out.onnx --weights w.pth": "--weights is for PyTorch",
    "fold model.onnx -o out.onnx --keep-modules": "--keep-modules is for PyTorch",
    "inspect model.onnx --input 1x3": "--input is for PyTorch",
    "inspect model.onnx --data x.npy --device cuda": "it runs with --provider",
    "verify model.onnx model.onnx --device cuda": "they run with --provider",
    "verify model.onnx model.onnx --candidate-weights w.pth": "--candidate-weights is for PyTorch",
    "verify model.onnx net.py:make --weights w.pth": "--weights is for REFERENCE",
    "inspect net.py:make --freeze-initializers": "--freeze-initializers is for ONNX models",
    "recalibrate net.py:make -o out.pth --data x.npy --provider CPUExecutionProvider": "--device",
    "recalibrate net.py:make -o - --data x.npy": "-o - is for ONNX models",
    "inspect nets.py": "as nets.py:make (there are Net, with_classes, make, data)",
    "fold net.py:make -o out.txt": "out.txt has no suffix of a PyTorch file",
    "recalibrate net.py:make -o out --data x.npy": "out has no suffix of a PyTorch file",
    "fold model.onnx -o out.pt2": "an ONNX model is written as .onnx",
    "fold net.py:make -o out.pth --weights w.pt": "did you mean w.pth?",
    # what is not there
    "verify model.onnx model.onnx --provider AbacusProvider": "onnxruntime has no AbacusProvider",
    "recalibrate model.onnx -o o.onnx --data x.npy --provider Abacus": "onnxruntime has no Abacus",
    "fold model.onnx -o out.onnx --only nothing*": "--only nothing* names no BatchNorm; there are bn",
    "fold model.onnx -o out.onnx --skip nothing*": "--skip nothing* names no BatchNorm",
    "fold model.onnx -o out.onnx --min-folded many": "--min-folded is a number or a share",
    "fold model.onnx -o out.onnx --min-folded 101%": "--min-folded is a number or a share",
}  # fmt: skip


@pytest.fixture
def place(command: Command, tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text("def make():\n    raise SystemExit('this ran')\n")
    (tmp_path / "nets.py").write_text(
        "class Net: ...\ndef with_classes(count): ...\ndef make(width=8): ...\ndef data(): ...\n"
    )
    (tmp_path / "data.py").write_text("def rows():\n    raise SystemExit('this ran')\n")
    (tmp_path / "w.pth").touch()
    values = np.random.default_rng(0).normal(size=(4, 4, 9, 9)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "x.npy", values)
    return tmp_path


@pytest.mark.parametrize("line", _REFUSED)
def test_it_is_refused_before_anything_runs(line: str, place: Path, command: Command) -> None:
    before = files_in(place)
    outcome = command(*line.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert _REFUSED[line] in outcome.err
    is_one_sentence(outcome.err)
    assert files_in(place) == before


def test_the_same_options_work_where_they_apply(place: Path, command: Command) -> None:
    for line in (
        "inspect model.onnx --data x.npy --samples 3 --shuffle --seed 1 --fail-on never",
        "recalibrate model.onnx --data x.npy -o new.onnx --threads 1",
        "verify model.onnx model.onnx --threads 1 --provider CPUExecutionProvider",
        "fold model.onnx -o out.onnx --only bn --min-folded 100%",
    ):
        outcome = command(*line.split())
        assert outcome.code == 0, outcome.err


@pytest.fixture
def pictures(place: Path) -> Path:
    """A model of three colours, and pixels for it as images and as bytes."""
    net = Net()
    y = net.relu(net.bn(net.conv(net.input("N", 3, 8, 8), 3, 4), 4), "end")
    save(net.model(y), place / "colours.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    (place / "photos").mkdir()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(place / "photos" / f"{number}.png")
    planes = np.moveaxis(pixels, 3, 1)
    np.save(place / "bytes.npy", planes)
    np.save(place / "scaled.npy", planes.astype(np.float32) / 255)
    return place


@pytest.mark.parametrize(
    "line", ["inspect colours.onnx", "fold colours.onnx -o o.onnx", "verify colours.onnx colours.onnx",
             "recalibrate colours.onnx -o o.onnx"],
)  # fmt: skip
def test_pixels_that_are_not_scaled_are_noticed(
    line: str, pictures: Path, command: Command
) -> None:
    words = "warning: x is uint8 in the data and float32 in the model"
    assert words in command(*line.split(), "--data", "bytes.npy").out
    assert words not in command(*line.split(), "--data", "scaled.npy").out
    outcome = command(*line.split(), "--data", "photos", "--mean", "123.7,116,103", "--std", "58")
    assert "--mean holds 123.7, and colours are taken as numbers from 0 to 1" in outcome.out
    assert "--std holds 58" in outcome.out
    assert "warning" not in command(*line.split(), "--data", "photos", "--mean", "1", "-q").err
    outcome = command(*line.split(), "--data", "photos", "--mean", "0.48,0.46,0.41", "--std", "1")
    assert "colours are taken" not in outcome.out


def test_bytes_for_a_model_of_bytes_are_right(place: Path, command: Command) -> None:
    """uint8 is what such a model wants."""
    net = Net()
    x = net.input("N", 4, 9, 9)
    model = net.model(net.relu(net.bn(net.conv(x, 4, 6), 6)))
    value = model.graph.input[0]
    value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    cast = onnx.helper.make_node("Cast", [value.name], ["as_float"], to=onnx.TensorProto.FLOAT)
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == value.name:
                node.input[position] = "as_float"
    model.graph.node.insert(0, cast)
    save(model, place / "bytes.onnx")
    np.save(place / "b.npy", np.zeros((4, 4, 9, 9), np.uint8) + np.arange(9, dtype=np.uint8))
    outcome = command("inspect", "bytes.onnx", "--data", "b.npy", "--fail-on", "never")
    assert outcome.code == 0 and "taken as they are" not in outcome.out
