"""What random graphs found: folds that were wrong, though the proof refused them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

import bnfold
from situations.build import Net

SIZE = 4
UP = np.array([0.7, 1.3, 0.9, 1.1])


def _net() -> Net:
    return Net(opset=18, dtype=TensorProto.DOUBLE)


def attention_over_a_vector() -> onnx.ModelProto:
    """A matrix product sums over the only axis of a vector, whatever the softmax is."""
    net = _net()
    y = net.bn(net.input(1, SIZE), SIZE, scale=UP)
    v = net.op("Reshape", y, net.ints(SIZE), name="flat")
    q = net.op("Softmax", net.input(SIZE, SIZE, name="q"), name="weights", axis=-1)
    w = net.op("Reshape", net.op("MatMul", q, v, name="mix"), net.ints(1, SIZE), name="back")
    return net.model(net.op("MatMul", w, net.weight(SIZE, 3), name="head"))


def attention_over_a_vector_in_front_of_a_norm() -> onnx.ModelProto:
    net = _net()
    y = net.op("Gemm", net.input(1, SIZE), net.weight(SIZE, SIZE), net.weight(SIZE), name="gemm")
    v = net.op("Reshape", y, net.ints(SIZE), name="flat")
    q = net.op("Softmax", net.input(2, SIZE, SIZE, name="q"), name="weights", axis=-1)
    return net.model(net.bn(net.op("MatMul", q, v, name="mix"), SIZE))


def _turned(net: Net, value: str) -> onnx.ModelProto:
    """A layer behind a value that has become one of rank 4."""
    y = net.op("Transpose", value, name="turn", perm=[0, 2, 1, 3])
    y = net.op("Squeeze", y, net.ints(0), name="squeeze")
    return net.model(net.op("MatMul", net.weight(3, SIZE), y, name="head"))


def zeros_of_a_higher_rank() -> onnx.ModelProto:
    net = _net()
    shift = UP * 0.3 / np.sqrt(1.1)
    y = net.input(SIZE, SIZE, 3)
    y = net.bn(y, SIZE, scale=UP, shift=shift, mean=0.3, variance=1.1, epsilon=0.0)
    mask = net.op("Greater", net.input(SIZE, SIZE, 3, name="m"), net.const(0.0), name="mask")
    return _turned(net, net.op("Where", mask, y, net.const(np.zeros((1, 1, 1, 1))), name="choice"))


def an_addend_of_a_higher_rank() -> onnx.ModelProto:
    net = _net()
    y = net.bn(net.input(SIZE, SIZE, 3), SIZE, scale=UP)
    other = net.op(
        "MatMul", net.weight(SIZE, SIZE), net.input(SIZE, SIZE, 3, name="m"), name="branch"
    )
    return _turned(net, net.op("Sum", y, other, net.const(np.ones((1, 1, 1, 1))), name="sum"))


def an_input_that_is_added_twice() -> onnx.ModelProto:
    net = Net(opset=18)
    x = net.input(2, SIZE, 5)
    y = net.bn(net.op("Conv", x, net.weight(SIZE, SIZE, 1), name="conv"), SIZE)
    return net.model(net.op("Sum", x, y, x, name="sum"))


def a_bias_that_equals_the_weight() -> onnx.ModelProto:
    """Of two new tensors with the same elements both have to be in the file."""
    net = _net()
    y = net.op("Add", net.input(1, 5), net.const(1.0), name="one")
    return net.model(net.op("MatMul", net.weight(3, 1), y, name="head"))


def _bias_behind_identity(named: bool) -> onnx.ModelProto:
    """The operator that hands the bias on goes with the fold, and the sum behind it stays."""
    net = Net(opset=15)
    y = net.op("MatMul", net.input(2, SIZE), net.weight(SIZE, SIZE), name="product")
    bias = net.op("Identity", net.weight(SIZE), name="bias")
    model = net.model(net.bn(net.op("Add", y, bias, name="sum"), SIZE))
    for node in model.graph.node if not named else ():
        node.ClearField("name")
    return model


def a_bias_behind_an_identity() -> onnx.ModelProto:
    return _bias_behind_identity(named=True)


def operators_without_names() -> onnx.ModelProto:
    return _bias_behind_identity(named=False)


def a_weight_that_an_operator_makes_for_two_layers() -> onnx.ModelProto:
    """The operator stays for the layer that does not change."""
    net = Net(opset=15)
    x = net.input(2, SIZE)
    weight = net.op("Transpose", net.weight(SIZE, SIZE), name="turned")
    y = net.bn(net.op("MatMul", x, weight, name="first"), SIZE)
    return net.model(y, net.relu(net.op("MatMul", x, weight, name="second")))


def a_weight_in_a_node_for_two_layers() -> onnx.ModelProto:
    net = Net(opset=15)
    x = net.input(2, SIZE, 5, 5)
    weight = net.constant_node(np.eye(SIZE).reshape(SIZE, SIZE, 1, 1), "weight")
    y = net.bn(net.op("Conv", x, weight, name="first"), SIZE)
    return net.model(y, net.relu(net.op("Conv", x, weight, name="second")))


def a_number_in_a_sum() -> onnx.ModelProto:
    """It becomes a vector along the channels, wherever these are; here the rows are as long."""
    net = Net(opset=10)
    x = net.input(2, SIZE, 3, SIZE)
    branch = net.conv(x, SIZE, SIZE, (1, 1), "branch")
    y = net.bn(x, SIZE, scale=UP, shift=0.0, mean=0.0)
    y = net.relu(net.op("Add", y, branch, name="add"))
    y = net.op("Sum", y, net.const(0.3), name="sum")
    return net.model(net.conv(y, SIZE, SIZE, (1, 1), "head"))


def a_mask_of_channels_behind_a_norm() -> onnx.ModelProto:
    """A pruned channel is multiplied by zero: whatever shift it has, none arrives."""
    net = _net()
    y = net.bn(net.input(1, SIZE, 5), SIZE, scale=UP)
    mask = net.const(np.array([1.0, 0.0, 1.0, 1.0]).reshape(SIZE, 1))
    return net.model(net.op("Mul", y, mask, name="mask"))


NETWORKS: list[Callable[[], onnx.ModelProto]] = [
    attention_over_a_vector,
    attention_over_a_vector_in_front_of_a_norm,
    zeros_of_a_higher_rank,
    an_addend_of_a_higher_rank,
    an_input_that_is_added_twice,
    a_bias_that_equals_the_weight,
    a_bias_behind_an_identity,
    operators_without_names,
    a_weight_that_an_operator_makes_for_two_layers,
    a_weight_in_a_node_for_two_layers,
    a_number_in_a_sum,
    a_mask_of_channels_behind_a_norm,
]


@pytest.mark.parametrize("reparameterize", [False, True])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda build: build.__name__)
def test_what_is_written_computes_the_same(
    network: Callable[[], onnx.ModelProto], reparameterize: bool
) -> None:
    model = network()
    unproved = bnfold.fold(model, verify=False, reparameterize=reparameterize)
    rng = np.random.default_rng(0)
    double = model.graph.input[0].type.tensor_type.elem_type == TensorProto.DOUBLE
    dtype = np.float64 if double else np.float32
    feeds = {
        i.name: rng.normal(size=[d.dim_value for d in i.type.tensor_type.shape.dim]).astype(dtype)
        for i in model.graph.input
    }
    before, after = (
        ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, feeds
        )[0]
        for m in (model, unproved.model)
    )
    tolerance = 1e-12 if double else 1e-5
    np.testing.assert_allclose(after, before, rtol=tolerance, atol=tolerance)
    assert bnfold.fold(model, reparameterize=reparameterize).ok


def test_a_file_that_joins_a_number_to_maps_gets_a_plan() -> None:
    """Before operator set 8 a maximum has the shape of its first input, a number here."""
    net = Net(opset=7)
    x = net.conv(net.input("N", SIZE, 5, 5), SIZE, SIZE, (1, 1))
    y = net.bn(net.relu(x), SIZE, scale=UP)
    least = net.op("Max", net.const(0.0), x, name="max")
    joined = net.op("Concat", least, y, name="join", axis=1)
    model = net.model(net.conv(joined, 2 * SIZE, 3, (1, 1), "head"))
    assert bnfold.fold(model, verify=False).report.plan.batch_norms


def test_an_offset_is_measured_with_what_a_norm_has_taken_over() -> None:
    """A tiny scale, and a shift in the next norm: together they would cost the values before their digits."""
    net = Net()
    x = net.conv(net.input(2, 3, 6, 6), 3, SIZE, (1, 1), "stem")
    tiny = np.array([1.0, 1e-6, 1.0, 1.0])
    y = net.bn(x, SIZE, "bn0", scale=tiny, shift=0.0, mean=0.0, variance=1.0)
    y = net.relu(net.bn(y, SIZE, "bn1", scale=UP, shift=-0.1, mean=0.0, variance=1.0), "rectified")
    y = net.op("Add", net.conv(y, SIZE, SIZE, (3, 3), "conv", pads=[1] * 4), x, name="add")
    plan = bnfold.fold(net.model(net.conv(y, SIZE, 2, (1, 1), "head")), verify=False).report.plan
    (reason,) = [d.reason for d in plan.batch_norms if d.reason]
    assert reason.reason.code == "far_offset" and "channel 1)" in reason.message


def test_a_norm_that_stays_keeps_its_digits() -> None:
    """Its input in a gauge of 1e4 would be a difference of numbers ten thousand times as large."""
    net = Net()
    x = net.conv(net.input(2, 3, 6, 6), 3, SIZE, (1, 1), "stem")
    small = np.array([1.0, 1e-4, 1.0, 1.0])
    plain: dict[str, Any] = {"shift": 0.0, "mean": 0.0, "variance": 1.0}
    branch = net.conv(net.relu(x, "other"), SIZE, SIZE, (1, 1), "branch")
    y = net.relu(
        net.op("Add", net.bn(x, SIZE, "bn0", scale=small, **plain), branch, name="add"), "end"
    )
    stays = net.op("Sigmoid", net.bn(x, SIZE, "bn1", scale=UP, mean=1.0, variance=1.0), name="gate")
    result = bnfold.fold(net.model(y, stays))
    assert result.ok
    (reason,) = [d.reason for d in result.report.plan.batch_norms if d.name == "bn0"]
    assert reason is not None and "too far apart" in reason.message
