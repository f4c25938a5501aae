"""Parallel linear branches on one input become one: what merges, and what must stay apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import bnfold
from situations.build import Net, operators
from situations.fold import save
from situations.run import error, feeds_for, run

SIZES = ((1, 7), (2, 8))
Build = Callable[[], onnx.ModelProto]


def _block(
    *branches: dict[str, Any], op: str = "Add", channels: int = 4, identity: bool = False,
    also: str | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """Convolutions with norms on one value, added up pairwise or by one Sum."""
    net = Net()
    x = net.relu(net.input("N", channels, "H", "W"), "in")
    values = []
    for i, settings in enumerate(branches):
        y = net.conv(x, channels, channels, name=f"conv{i}", bias=i == 0, **settings)
        values.append(net.bn(y, channels, f"bn{i}"))
    if identity:
        values.append(net.bn(x, channels, "bn_identity"))
    total = values[0]
    if op == "Sum":
        total = net.op("Sum", *values, name="sum")
    else:
        for i, value in enumerate(values[1:]):
            total = net.op(op, total, value, name=f"sum{i}")
    more = [net.op("Sigmoid", values[-1], name="gate")] if also == "read" else []
    more += [values[-1]] if also == "output" else []
    return net.model(net.relu(total, "out"), *more)


_3x3: dict[str, Any] = {"kernel": (3, 3), "pads": [1] * 4}
_1x1: dict[str, Any] = {"kernel": (1, 1)}
_ACNET: tuple[dict[str, Any], ...] = (
    _3x3, {"kernel": (1, 3), "pads": [0, 1, 0, 1]}, {"kernel": (3, 1), "pads": [1, 0, 1, 0]},
)  # fmt: skip


def _with(settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**settings, **more}


MERGED: dict[str, Build] = {
    "RepVGG": partial(_block, _3x3, _1x1, identity=True),
    "RepVGG with a stride": partial(
        _block, _with(_3x3, strides=[2, 2]), _with(_1x1, strides=[2, 2])
    ),
    "in groups": partial(_block, _with(_3x3, group=2), _with(_1x1, group=2), identity=True),
    "depthwise": partial(_block, _with(_3x3, group=4), _with(_1x1, group=4), identity=True),
    "subtracted": partial(_block, _3x3, _1x1, op="Sub", identity=True),
    "ACNet": partial(_block, *_ACNET),
    "ACNet by one Sum": partial(_block, *_ACNET, op="Sum"),
    "MobileOne": partial(_block, _3x3, _3x3, _3x3, _1x1, identity=True),
    "five by five": partial(_block, _3x3, {"kernel": (5, 5), "pads": [2] * 4}),
    "one convolution and the identity": partial(_block, _3x3, identity=True),
    "SAME_UPPER": partial(
        _block, _3x3, {"kernel": (3, 3), "auto_pad": "SAME_UPPER"}, identity=True
    ),
    "SAME_UPPER kept": partial(_block, {"kernel": (5, 5), "auto_pad": "SAME_UPPER"}, _3x3, _1x1),
    "SAME of even kernels": partial(
        _block, *({"kernel": (2, 2), "auto_pad": how} for how in ("SAME_LOWER", "SAME_UPPER"))
    ),
    "VALID": partial(_block, {"kernel": (3, 3)}, {"kernel": (3, 3), "auto_pad": "VALID"}),
}


@pytest.mark.parametrize("name", MERGED)
def test_branches_become_one_convolution(name: str, tmp_path: Path) -> None:
    model = MERGED[name]()
    source, target = save(model, tmp_path / "model.onnx"), tmp_path / "folded.onnx"
    result = bnfold.fold(source, target, reparameterize=True)
    assert result.ok
    assert result.batch_norms_left == 0
    assert operators(onnx.load(target).graph) == {"Relu": 2, "Conv": 1}
    for feeds in feeds_for(model, SIZES):
        assert error(run(source, feeds), run(target, feeds)) < 2e-5
    assert bnfold.inspect(source, reparameterize=True).plan.decisions == result.plan.decisions


APART: dict[str, tuple[Build, dict[str, int]]] = {
    "groups differ": (
        partial(_block, _with(_3x3, group=2), _with(_1x1, group=4)), {"Conv": 2, "Add": 1}),
    "dilations differ": (
        partial(_block, _3x3, {"kernel": (3, 3), "pads": [2] * 4, "dilations": [2, 2]}),
        {"Conv": 2, "Add": 1}),
    "padding that depends on the size": (
        partial(_block, *({"kernel": (k, k), "strides": [2, 2], "auto_pad": "SAME_UPPER"}
                          for k in (3, 1))),
        {"Conv": 2, "Add": 1}),
    "a branch is read elsewhere": (
        partial(_block, _3x3, _1x1, also="read"), {"Conv": 2, "Add": 1, "Sigmoid": 1}),
    "a branch is a graph output": (
        partial(_block, _3x3, _1x1, also="output"), {"Conv": 2, "Add": 1}),
}  # fmt: skip


def _product(net: Net, x: str, name: str, op: str = "Gemm", **settings: Any) -> str:
    """x W + b from four to four channels."""
    weight, bias = net.weight(4, 4, name=f"{name}.weight"), net.weight(4, name=f"{name}.bias")
    if op == "Gemm":
        return net.op("Gemm", x, weight, bias, name=name, **settings)
    y = net.op("MatMul", *((weight, x) if settings else (x, weight)), name=name)
    return net.op("Add", y, bias, name=f"{name}_bias") if op == "MatMul+Add" else y


def _matrices(
    *branches: dict[str, Any], dims: tuple[int | str, ...] = ("N", 4), add: str = "Add",
    norms: bool = True, also: str | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """Matrix products with norms on one value, added up; a branch without settings is a norm."""
    net = Net()
    x = net.relu(net.input(*dims), "in")
    values = []
    for i, settings in enumerate(branches):
        y = _product(net, x, f"product{i}", **settings) if settings else x
        values.append(net.bn(y, 4, f"bn{i}") if norms or not settings else y)
    total = values[0]
    for i, value in enumerate(values[1:]):
        total = net.op(add, total, value, name=f"sum{i}")
    more = [net.op("Sigmoid", values[-1], name="gate")] if also == "read" else []
    return net.model(net.relu(total, "out"), *more, unknown=(net.dtype, len(dims)))


_GEMM: dict[str, Any] = {"op": "Gemm"}
_WIDE: tuple[int | str, ...] = ("N", 5, 4)
MATRICES: dict[str, tuple[Build, dict[str, int]]] = {
    "two": (partial(_matrices, _GEMM, _GEMM), {"Gemm": 1}),
    "factors": (
        partial(_matrices, {"alpha": 0.5, "beta": 2.0}, {"alpha": -1.5}, {"beta": 0.0}), {"Gemm": 1}),
    "both turned": (partial(_matrices, {"transB": 1}, {"transB": 1}), {"Gemm": 1}),
    "beside a norm": (partial(_matrices, {"transB": 1, "alpha": 2.0}, {}), {"Gemm": 1}),
    "subtracted": (partial(_matrices, _GEMM, _GEMM, {}, add="Sub"), {"Gemm": 1}),
    "products": (partial(_matrices, {"op": "MatMul"}, {"op": "MatMul+Add"}), {"Gemm": 1}),
    "products of a stack": (
        partial(_matrices, {"op": "MatMul+Add"}, {"op": "MatMul+Add"}, dims=_WIDE, norms=False),
        {"MatMul": 1, "Add": 1}),
    "products that get their bias from another": (
        partial(_matrices, {"op": "MatMul"}, {"op": "MatMul+Add"}, dims=_WIDE, norms=False),
        {"MatMul": 1, "Add": 1}),
    # What must stay apart
    "one turned": (partial(_matrices, _GEMM, {"transB": 1}), {"Gemm": 2, "Add": 1}),
    "transposed input": (
        partial(_matrices, _GEMM, {"transA": 1}, dims=(4, 4)), {"Gemm": 2, "Add": 1}),
    "of two operators": (
        partial(_matrices, _GEMM, {"op": "MatMul+Add"}), {"Gemm": 1, "MatMul": 1, "Add": 2}),
    "from either side": (
        partial(_matrices, {"op": "MatMul"}, {"op": "MatMul", "left": True}, dims=(4, 4), norms=False),
        {"MatMul": 2, "Add": 1}),
    "nothing left of a factor": (
        partial(_matrices, {"alpha": 0.0}, {"alpha": 0.0}), {"Gemm": 2, "Add": 1}),
    "read elsewhere": (
        partial(_matrices, _GEMM, _GEMM, also="read"), {"Gemm": 2, "Add": 1, "Sigmoid": 1}),
}  # fmt: skip


@pytest.mark.parametrize(
    ("build", "left"),
    [*APART.values(), *MATRICES.values()],
    ids=[*(f"apart: {name}" for name in APART), *(f"matrices: {name}" for name in MATRICES)],
)
def test_what_is_left(build: Build, left: dict[str, int], tmp_path: Path) -> None:
    model = build()
    source, target = save(model, tmp_path / "model.onnx"), tmp_path / "folded.onnx"
    assert bnfold.fold(source, target, reparameterize=True).ok
    assert operators(onnx.load(target).graph) == {"Relu": 2, **left}
    for feeds in feeds_for(model, SIZES):
        assert error(run(source, feeds), run(target, feeds)) < 2e-5


def test_it_is_not_done_unasked(tmp_path: Path) -> None:
    source = save(MERGED["RepVGG"](), tmp_path / "model.onnx")
    result = bnfold.fold(source, tmp_path / "folded.onnx")
    assert result.batch_norms_left == 1
    assert operators(onnx.load(tmp_path / "folded.onnx").graph)["Conv"] == 2


def test_a_wider_padding_is_no_wider_kernel(tmp_path: Path) -> None:
    """A padded 1x1 on one pixel gives a map of 3x3, to which the sum broadcasts the other."""
    net = Net()
    x = net.relu(net.input("N", 4, 1, 1), "in")
    y = net.op(
        "Add", net.conv(x, 4, 4, (3, 3), "a", pads=[1] * 4), net.conv(x, 4, 4, (1, 1), "b", pads=[1] * 4),
        name="sum",
    )  # fmt: skip
    model = net.model(net.relu(y, "out"))
    source, target = save(model, tmp_path / "model.onnx"), tmp_path / "folded.onnx"
    assert bnfold.fold(source, target, reparameterize=True).ok
    for feeds in feeds_for(model, SIZES):
        assert error(run(source, feeds), run(target, feeds)) < 2e-5


def test_shared_weights_are_left_to_the_others(tmp_path: Path) -> None:
    net = Net()
    x = net.relu(net.input("N", 4, "H", "W"), "in")
    a = net.conv(x, 4, 4, name="a", pads=[1] * 4)
    b = net.op("Conv", x, "a.weight", name="b", pads=[1] * 4)
    c = net.op("Conv", net.op("Tanh", x, name="tanh"), "a.weight", name="c", pads=[1] * 4)
    model = net.model(net.relu(net.op("Add", a, b, name="sum"), "out"), c)
    source, target = save(model, tmp_path / "model.onnx"), tmp_path / "folded.onnx"
    assert bnfold.fold(source, target, reparameterize=True).ok
    assert operators(onnx.load(target).graph)["Conv"] == 2
    for feeds in feeds_for(model, SIZES):
        assert error(run(source, feeds), run(target, feeds)) < 2e-5


def test_half_precision_sums_do_not_overflow(tmp_path: Path) -> None:
    """Two weights that fit, and whose sum does not."""
    net = Net(dtype=TensorProto.FLOAT16)
    x = net.relu(net.input("N", 2, 4, 4), "in")
    weights = [net.const(np.full((2, 2, 1, 1), 40000.0), f"w{i}") for i in range(2)]
    a, b = (net.op("Conv", x, w, name=f"conv{i}") for i, w in enumerate(weights))
    source = save(net.model(net.relu(net.op("Add", a, b, name="sum"))), tmp_path / "model.onnx")
    bnfold.fold(source, tmp_path / "folded.onnx", reparameterize=True, verify=False)
    folded = onnx.load(tmp_path / "folded.onnx")
    for tensor in folded.graph.initializer:
        assert np.isfinite(onnx.numpy_helper.to_array(tensor)).all()
