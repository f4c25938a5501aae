"""Two models beside one another: what moved, what is gone, and nothing where nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from situations.command import Command
from situations.fold import ROOT

_MODEL = ROOT / "sample_models" / "residual.onnx"


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """The second layer's mean, and the third's variance, in one channel each."""
    model = onnx.load(_MODEL)
    norms = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
    tensors = {t.name: t for t in model.graph.initializer}

    def change(name: str, channel: int, by: float) -> None:
        array = numpy_helper.to_array(tensors[name]).copy()
        array[channel] *= np.float32(by)
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))

    change(norms[1].input[3], 5, 3.0)
    change(norms[2].input[4], 2, 4.0)
    change(norms[3].input[1], 1, 2.0)
    onnx.save(model, tmp_path / "moved.onnx")
    return tmp_path / "moved.onnx"


def _against(command: Command, *arguments: Any) -> Any:
    return command("inspect", *arguments, "-f", "json").json["against"]


def test_nothing_moved_beside_itself(command: Command) -> None:
    found = _against(command, _MODEL, "--against", _MODEL)
    assert len(found["batch_norms"]) == 8 and not any(b["changed"] for b in found["batch_norms"])
    assert "0 of 8 BatchNorm differ" in command("inspect", _MODEL, "--against", _MODEL).out


def test_what_moved_is_named(moved: Path, command: Command) -> None:
    found = {b["name"]: b for b in _against(command, moved, "--against", _MODEL)["batch_norms"]}
    names = list(found)
    assert [name for name in names if found[name]["changed"]] == names[1:4]
    mean, variance, scale = (found[name] for name in names[1:4])
    assert mean["channel"] == 5 and mean["mean_shift"] > 0 and mean["affine_change"] == 0
    assert mean["variance_ratio"] == {"min": 1, "max": 1}
    assert variance["mean_shift"] == 0
    assert variance["variance_ratio"] == {"min": 1, "max": pytest.approx(4, rel=0.01)}
    assert scale["affine_change"] > 0 and scale["mean_shift"] == 0
    out = command("inspect", moved, "--against", _MODEL).out
    assert "3 of 8 BatchNorm differ" in out and names[1] in out


def test_layers_without_a_counterpart(command: Command) -> None:
    found = _against(command, "model.onnx", "--against", _MODEL)
    assert found["new"] and len(found["missing"]) == 8 and not found["by_position"]
    out = command("inspect", "model.onnx", "--against", _MODEL).out
    assert "in the other model alone" in out and "warning: nothing is compared" in out


def test_other_names_go_by_their_order(tmp_path: Path, command: Command) -> None:
    model = onnx.load(_MODEL)
    for number, node in enumerate(model.graph.node):
        node.name = f"renamed_{number}"
    onnx.save(model, tmp_path / "renamed.onnx")
    found = _against(command, "renamed.onnx", "--against", _MODEL)
    assert found["by_position"] and not any(b["changed"] for b in found["batch_norms"])
    assert "go by their order" in command("inspect", "renamed.onnx", "--against", _MODEL).out


def test_broken_statistics_beside_healthy_ones(tmp_path: Path, command: Command) -> None:
    model = onnx.load(_MODEL)
    norm = next(n for n in model.graph.node if n.op_type == "BatchNormalization")
    tensor = next(t for t in model.graph.initializer if t.name == norm.input[3])
    array = numpy_helper.to_array(tensor).copy()
    array[3] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, tmp_path / "nan.onnx")
    first = _against(command, "nan.onnx", "--against", _MODEL)["batch_norms"][0]
    assert first["changed"] and first["channel"] == 3 and first["mean_shift"] is None
    assert not _against(command, "nan.onnx", "--against", "nan.onnx")["batch_norms"][0]["changed"]
