"""The constants that bnfold finds are what onnxruntime makes of the whole file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import bnfold
from bnfold.constants import Constant
from bnfold.formats.onnx import OnnxModel
from bnfold.formats.onnx.file.tensors import TensorStore
from bnfold.formats.onnx.graph import constants as constants_module
from bnfold.formats.onnx.graph.evaluation import Runtime
from situations.build import Net, body
from situations.expressions import OPSETS, TABLE, Expression, unary
from situations.fold import save
from situations.run import run

CASES = [(name, opset) for name, (_, first) in TABLE.items() for opset in OPSETS if opset >= first]


def _model(net: Net, *outputs: str) -> onnx.ModelProto:
    model = helper.make_model(
        net.graph(*outputs), opset_imports=[helper.make_opsetid("", net.opset)], ir_version=net.ir
    )
    return model


def _found(model: onnx.ModelProto, place: Path, name: str) -> Constant | None:
    opened = OnnxModel(save(model, place / "model.onnx"))
    known = opened.has_constant(opened.scopes[0], name)
    return opened.constant(opened.scopes[0], name) if known else None


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _check(expression: Expression, opset: int, place: Path) -> None:
    """The constant that bnfold finds in a file is what the whole file gives for it."""
    net = Net(opset, ir=11, seed=opset)
    output = expression(net)
    constant = _found(_model(net, output), place, output)
    assert constant is not None, "not taken for a constant"
    model = _model(net, output)
    if constant.dtype.kind == "V":  # the runtime hands no such type over
        net.op("Cast", output, name="wide", to=TensorProto.FLOAT)
        model = _model(net, "wide_out")
    (whole,) = run(model, {})
    assert constant.shape == whole.shape
    np.testing.assert_array_equal(_plain(constant.load()), whole)


@pytest.mark.parametrize(("name", "opset"), CASES)
def test_constants_are_what_the_file_computes(name: str, opset: int, tmp_path: Path) -> None:
    _check(TABLE[name][0], opset, tmp_path)


_STEPS: tuple[Callable[[Net, str, str], str], ...] = (
    lambda net, x, name: net.op("Softmax", x, name=name),
    lambda net, x, name: net.op("Transpose", x, name=name, perm=[1, 2, 0]),
    lambda net, x, name: net.op("Mul", x, net.weight(1), name=name),
    lambda net, x, name: net.op("Concat", x, x, name=name, axis=2),
    lambda net, x, name: net.op("LogSoftmax", x, name=name, axis=1),
    lambda net, x, name: net.op("Reshape", x, net.ints(0, -1, 2), name=name),
    lambda net, x, name: net.op(
        "Add", x, net.op("Sqrt", net.weight(1, low=0), name=f"{name}q"), name=name
    ),
    lambda net, x, name: net.op("Gather", x, net.ints(1, 0), name=name, axis=1),
)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("seed", range(3))
def test_chains_of_constants(seed: int, opset: int, tmp_path: Path) -> None:
    chosen = np.random.default_rng([seed, opset]).integers(len(_STEPS), size=6)

    def chain(net: Net) -> str:
        x = net.weight(4, 6, 2)
        for i, step in enumerate(chosen):
            x = _STEPS[step](net, x, f"c{i}")
        return x

    _check(chain, opset, tmp_path)


@pytest.mark.parametrize("taken", [7, 13, 21])
def test_an_evaluation_at_another_opset_would_show(
    taken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants_module, "Runtime", lambda _, ir: Runtime(taken, ir))
    wrong = 11 if taken >= 13 else 18
    with pytest.raises(AssertionError):
        _check(unary("Softmax"), wrong, tmp_path)


def test_a_norm_of_constants_stays_a_norm(tmp_path: Path) -> None:
    net = Net()
    y = net.bn(net.weight(2, 3, 4, 4), 3)
    assert _found(_model(net, y), tmp_path, y) is None


def test_what_cannot_be_computed_spoils_nothing_else(tmp_path: Path) -> None:
    """Of ten results one takes an entry that does not exist, and one follows from that."""
    net = Net()
    good = [net.op("Neg", net.weight(3), name=f"good{i}") for i in range(8)]
    bad = net.op("Gather", net.weight(3), net.ints(7), name="bad")
    worse = net.op("Neg", bad, name="worse")
    path = save(_model(net, *good, bad, worse), tmp_path / "model.onnx")
    model = OnnxModel(path)
    known = [name for name in (*good, bad, worse) if model.has_constant(model.scopes[0], name)]
    assert known == good
    for i, name in enumerate(good):
        expected = -onnx.numpy_helper.to_array(net.initializers[i])
        np.testing.assert_array_equal(model.constant(model.scopes[0], name).load(), expected)


def test_what_cannot_be_computed_keeps_its_norm(tmp_path: Path) -> None:
    net = Net()
    weight = net.op("Gather", net.weight(5, 3, 1, 1), net.ints(0, 9), name="bad", axis=0)
    y = net.op("Conv", net.input("N", 3, 8, 8), weight, name="conv")
    path = save(net.model(net.relu(net.bn(y, 2))), tmp_path / "model.onnx")
    (decision,) = bnfold.inspect(bnfold.load(path)).plan.batch_norms
    assert decision.reason is not None and decision.reason.reason.code == "computed_weight"


def test_random_numbers_are_no_constants(tmp_path: Path) -> None:
    net = Net()
    y = net.op("RandomNormalLike", net.weight(3), name="c", seed=1.0)
    y = net.op("Neg", y, name="d")
    assert _found(_model(net, y), tmp_path, y) is None


def test_too_large_results_are_not_computed(tmp_path: Path) -> None:
    net = Net()
    y = net.op("ConstantOfShape", net.ints(1 << 20, 1 << 12), name="c")
    assert _found(_model(net, y), tmp_path, y) is None


def test_a_body_computes_constants_of_its_own(tmp_path: Path) -> None:
    """Names of two bodies may be the same, and what lies outside is seen inside."""
    net = Net()
    outside = net.weight(3, name="outside")
    bodies = []
    for factor in (2.0, -3.0):
        inner = Net()
        c = inner.op("Mul", outside, inner.const(factor, "factor"), name="c")
        inner.op("Add", "x", c, name="y")
        bodies.append(body(inner, "y_out"))
    net.input("N", 3)
    flag = net.input(name="flag", dtype=TensorProto.BOOL)
    y = net.op("If", flag, name="if", then_branch=bodies[0], else_branch=bodies[1])
    model = OnnxModel(save(_model(net, y), tmp_path / "model.onnx"))
    found = [model.constant(scope, "c_out").load() for scope in model.scopes[1:]]
    weight = onnx.numpy_helper.to_array(net.initializers[0])
    expected = [
        weight * np.float32(factor) for factor in (-3.0, 2.0)
    ]  # the else branch comes first
    np.testing.assert_array_equal(found, expected)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each session that is opened."""
    opened: list[int] = []
    real = ort.InferenceSession

    def counted(*args: Any, **settings: Any) -> ort.InferenceSession:
        opened.append(1)
        return real(*args, **settings)

    monkeypatch.setattr(ort, "InferenceSession", counted)
    return opened


def test_all_constants_of_a_file_share_one_session(tmp_path: Path, sessions: list[int]) -> None:
    net = Net(11)
    names = [net.op("Softmax", net.weight(3, 4), name=f"c{i}") for i in range(50)]
    model = OnnxModel(save(_model(net, *names), tmp_path / "model.onnx"))
    assert all(model.has_constant(model.scopes[0], name) for name in names)
    assert len(sessions) == 1


def test_a_plain_file_needs_no_session(sample_models: Path, sessions: list[int]) -> None:
    bnfold.inspect(bnfold.load(sample_models / "residual.onnx"))
    assert not sessions


def test_large_weights_stay_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their shape is known without their elements."""
    net = Net()
    weight = net.weight(400, 300, name="large")
    moved = net.op("Transpose", weight, name="t")
    y = net.op("MatMul", net.input("N", 300), moved, name="product")
    model = OnnxModel(save(_model(net, y), tmp_path / "model.onnx"))
    loaded: list[str] = []
    real = TensorStore.load

    def noted(store: TensorStore, tensor: onnx.TensorProto) -> NDArray[Any]:
        loaded.append(tensor.name)
        return real(store, tensor)

    monkeypatch.setattr(TensorStore, "load", noted)
    constant = model.constant(model.scopes[0], moved)
    assert constant.shape == (300, 400) and not loaded
    np.testing.assert_array_equal(
        constant.load(), onnx.numpy_helper.to_array(net.initializers[0]).T
    )
    assert loaded == ["large"]
