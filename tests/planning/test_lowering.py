"""`--rest`: what has to stay computes the same with other operators, and is never called folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bnfold
from bnfold.cli.options import RestForm
from bnfold.errors import UsageError
from bnfold.planning import Rest
from bnfold.reports.text import rendered
from situations import SITUATIONS
from situations.build import Net, Situation, operators
from situations.fold import save, spoil_written
from situations.run import as_double, error, feeds_for, run, run_in_double

_LEFT = [s for s in SITUATIONS if s.runs and any(e.action == "keep" for e in s.norms.values())][::3]
_CONSTANT_SCALE: dict[str, Any] = {"scale": 1.0, "variance": 1.0, "epsilon": 0.0}
_NO_SHIFT: dict[str, Any] = {"shift": 0.0, "mean": 0.0}


def _between(space: tuple[int, ...], opset: int = 17, **norm: Any) -> onnx.ModelProto:
    """A BatchNorm between activations: it has to stay."""
    net = Net(opset)
    x = net.op("Sigmoid", net.input("N", 4, *space), name="before")
    return net.model(net.op("Tanh", net.bn(x, 4, **norm), name="behind"))


def _folded(model: onnx.ModelProto, folder: Path, rest: Any) -> tuple[Any, onnx.ModelProto]:
    path = save(model, folder / "a.onnx")
    result = bnfold.fold(path, folder / "b.onnx", rest=rest)
    assert result.ok
    return result, onnx.load(folder / "b.onnx")


def test_the_command_line_offers_what_there_is() -> None:
    assert [each.value for each in RestForm] == [each.value for each in Rest]


@pytest.mark.parametrize("situation", _LEFT, ids=str)
def test_what_stays_in_any_situation_computes_the_same(
    situation: Situation, tmp_path: Path
) -> None:
    path = save(situation.build(), tmp_path / "a.onnx")
    model = bnfold.load(path, freeze_initializers=situation.freeze)
    result = bnfold.fold(model, tmp_path / "b.onnx", rest="depthwise")
    assert result.ok
    after = onnx.load(tmp_path / "b.onnx")
    onnx.checker.check_model(after)
    left = [d["name"] for d in result.to_json()["decisions"] if d["action"] == "keep"]
    assert result.batch_norms_left == len(left)
    for feeds in feeds_for(situation.build(), situation.sizes[:1]):
        assert error(run(situation.build(), feeds), run(after, feeds)) < situation.tolerance
    if situation.doubles:
        before, after = as_double(situation.build()), as_double(after)
        for feeds in feeds_for(before, situation.sizes[:1]):
            assert error(run_in_double(before, feeds), run_in_double(after, feeds)) < 1e-5


@pytest.mark.parametrize(
    ("space", "rest", "expected"),
    [
        ((), "affine", "Mul Add"),
        ((5,), "affine", "Mul Add"),
        ((5, 4), "affine", "Mul Add"),
        ((3, 5, 4), "affine", "Mul Add"),
        ((2, 2, 2, 4), "affine", "Mul Add"),
        ((), "depthwise", "Mul Add"),
        ((5,), "depthwise", "Conv"),
        ((5, 4), "depthwise", "Conv"),
        ((3, 5, 4), "depthwise", "Conv"),
        ((2, 2, 2, 4), "depthwise", "Mul Add"),
        ((5, 4), "keep", "BatchNormalization"),
    ],
)
def test_forms(space: tuple[int, ...], rest: Any, expected: str, tmp_path: Path) -> None:
    result, after = _folded(_between(space), tmp_path, rest)
    assert operators(after.graph) == Counter(f"Sigmoid Tanh {expected}".split())
    (decision,) = result.to_json()["decisions"]
    assert decision["reason"]["code"] == "nonlinear_reader"
    form = {"Conv": "depthwise", "Mul Add": "affine"}.get(expected)
    assert decision["action"] == ("keep" if form is None else "lower")
    assert decision.get("form") == form
    assert result.batch_norms_left == (form is None)


@pytest.mark.parametrize(
    ("norm", "expected"), [(_NO_SHIFT, "Mul"), (_CONSTANT_SCALE, "Add"), ({}, "Mul Add")]
)
def test_as_cheap_as_it_can_be(norm: dict[str, Any], expected: str, tmp_path: Path) -> None:
    _, after = _folded(_between((4, 4), **norm), tmp_path, "affine")
    assert operators(after.graph) == Counter(f"Sigmoid Tanh {expected}".split())


def test_what_a_merge_has_left_is_lowered_with_it(tmp_path: Path) -> None:
    net = Net()
    x = net.op("Sigmoid", net.input(1, 4, 5, 5), name="before")
    y = net.bn(net.bn(x, 4, "bn0"), 4, "bn1")
    result, after = _folded(net.model(net.op("Tanh", y, name="behind")), tmp_path, "affine")
    assert operators(after.graph) == Counter("Sigmoid Mul Add Tanh".split())
    actions = [d["action"] for d in result.to_json()["decisions"]]
    assert sorted(actions) == ["lower", "merge"]


def _training() -> onnx.ModelProto:
    return _between((4, 4), training_mode=1)


def _mixed_types() -> onnx.ModelProto:
    """Values in half precision, parameters in float32."""
    model = _between((4, 4))
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = TensorProto.FLOAT16
    del model.graph.value_info[:]
    return model


def _infinite() -> onnx.ModelProto:
    return _between((4, 4), mean=np.inf)


@pytest.mark.parametrize("build", [_training, _mixed_types, _infinite])
def test_what_has_no_other_form_stays(build: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    path = save(build(), tmp_path / "a.onnx")
    result = bnfold.fold(path, tmp_path / "b.onnx", rest="affine", verify=False)
    assert [d["action"] for d in result.to_json()["decisions"]] == ["keep"]
    assert result.batch_norms_left == 1


def _wider(model: onnx.ModelProto) -> None:
    """A factor for the last axis, which is as long as there are channels."""
    for tensor in model.graph.initializer:
        if list(tensor.dims) == [4, 1, 1]:
            del tensor.dims[1:]
            return


def _other_element(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[1] *= 1 + 1e-6
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def _other_operator(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type in ("Mul", "Conv"))
    if node.op_type == "Mul":
        node.op_type = "Div"
    else:
        node.attribute.append(helper.make_attribute("auto_pad", "VALID"))


@pytest.mark.parametrize("rest", ["affine", "depthwise"])
@pytest.mark.parametrize("spoil", [_wider, _other_element, _other_operator])
def test_a_planted_fault_is_found(
    rest: Any, spoil: Callable[[onnx.ModelProto], None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if (rest, spoil) == ("depthwise", _wider):
        pytest.skip("a convolution has no such factor")
    spoil_written(monkeypatch, spoil)
    path = save(_between((4, 4)), tmp_path / "a.onnx")
    result = bnfold.fold(path, tmp_path / "b.onnx", rest=rest)
    assert not result.ok
    assert not result.to_json()["verification"]["congruence"]["passed"]


def test_words_and_counts(tmp_path: Path) -> None:
    result, _ = _folded(_between((4, 4)), tmp_path, "affine")
    text = rendered(result.report, 400)
    assert "1 lowered to a product and a sum (nonlinear_reader)" in text
    assert "1 BatchNorm: 0 fold, 1 lowered (no fold), 0 stay" in text
    assert bnfold.fold(tmp_path / "a.onnx", tmp_path / "c.onnx", rest="affine", strict=True).ok
    with pytest.raises(UsageError, match="none of keep, affine, depthwise"):
        bnfold.fold(tmp_path / "a.onnx", rest="conv")  # type: ignore[arg-type]
