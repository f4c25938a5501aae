"""Bodies of control flow, and model-local functions."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper

from situations.build import Net, Table, ahead, back, body, keep

TABLE = Table()


def _branch(seed: int, weight: str | None = None) -> Net:
    """conv_i -> bn_i on the outer x, for a body; ``weight`` comes from outside, if named."""
    net = Net(seed=seed)
    name = f"conv_{seed}"
    y = net.op("Conv", "x", weight or net.weight(4, 3, 1, 1), name=name)
    net.bn(y, 4, f"bn_{seed}")
    return net


def _if(*branches: Net, outer: Net | None = None, also: tuple[str, ...] = ()) -> onnx.ModelProto:
    net = outer or Net()
    if not net.inputs:
        net.input("N", 3, "H", "W")
    flag = net.input(name="flag", dtype=TensorProto.BOOL)
    then, other = (body(b, b.last().output[0], name=f"body{i}") for i, b in enumerate(branches))
    y = net.op("If", flag, name="choice", then_branch=then, else_branch=other)
    return net.model(net.relu(y, "end"), *also)


@TABLE.add({"bn_1": back("conv_1"), "bn_2": back("conv_2")}, doubles=False)
def if_bodies() -> onnx.ModelProto:
    return _if(_branch(1), _branch(2))


@TABLE.add({"bn_1": back("conv_1"), "bn_2": back("conv_2")}, doubles=False)
def if_bodies_that_capture_one_weight() -> onnx.ModelProto:
    """Each body gets a copy of its own."""
    outer = Net(seed=5)
    outer.weight(4, 3, 1, 1, name="shared")
    return _if(_branch(1, "shared"), _branch(2, "shared"), outer=outer)


@TABLE.add({"bn": keep("shared_value")}, doubles=False)
def convolution_captured_by_an_if_body() -> onnx.ModelProto:
    outer = Net()
    outer.bn(outer.conv(outer.input("N", 3, "H", "W"), 3, 4, (1, 1)), 4)
    bodies = []
    for i in range(2):
        inner = Net(seed=i)
        inner.op("Sigmoid" if i else "Tanh", "conv_out", name=f"inner{i}")
        bodies.append(inner)
    return _if(*bodies, outer=outer, also=("bn_out",))


@TABLE.add({"bn": keep("captured_value", "conv_out"), "bn_2": back("conv_2")}, doubles=False)
def norm_in_a_body_behind_a_convolution_outside() -> onnx.ModelProto:
    outer = Net()
    outer.conv(outer.input("N", 3, "H", "W"), 3, 4, (1, 1))
    inner = Net(seed=3)
    inner.bn("conv_out", 4)
    return _if(inner, _branch(2), outer=outer)


@TABLE.add({"bn": keep("opaque_reader", "If 'choice'")}, doubles=False)
def norm_outside_read_by_bodies() -> onnx.ModelProto:
    outer = Net()
    outer.bn(outer.relu(outer.input("N", 3, "H", "W")), 3)
    inner = [Net(seed=1), Net(seed=2)]
    for i, each in enumerate(inner):
        each.conv("bn_out", 3, 4, (1, 1), f"conv_{i}")
    return _if(*inner, outer=outer)


@TABLE.add({"bn_1": back("conv_1")}, doubles=False, sizes=((1, 4), (2, 5)))
def loop_body() -> onnx.ModelProto:
    """Four rounds through one convolution and its norm; the state is the graph's own input."""
    net, inner = Net(), Net(seed=1)
    x = net.input("N", 4, "H", "W")
    inner.inputs += [
        helper.make_tensor_value_info("round", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
    ]
    inner.input("N", 4, "H", "W", name="state")
    y = inner.bn(inner.conv("state", 4, 4, (1, 1), "conv_1"), 4, "bn_1")
    y = inner.op("Tanh", y, name="tanh")
    inner.op("Identity", "go", name="on")
    loop = body(inner, "on_out", y)
    loop.output[0].type.tensor_type.elem_type = TensorProto.BOOL
    count, flag = net.const(np.array(4, np.int64)), net.const(np.array(True))
    return net.model(net.relu(net.op("Loop", count, flag, x, name="loop", body=loop), "end"))


@TABLE.add({"bn_1": keep("nonlinear_reader", "Relu 'relu'")}, doubles=False)
def scan_body() -> onnx.ModelProto:
    net, inner = Net(), Net(seed=1)
    x = net.input(3, "T", 4)
    inner.input(3, 4, name="sum")
    inner.input(3, 4, name="row")
    y = inner.bn("row", 4, "bn_1")
    total = inner.op("Add", "sum", inner.relu(y), name="total")
    inner.op("Identity", total, name="copy")
    scan = body(inner, total, "copy_out")
    start = net.const(np.zeros((3, 4)))
    net.op("Scan", start, x, name="scan", outputs=2, body=scan, num_scan_inputs=1,
           scan_input_axes=[1])  # fmt: skip
    return net.model(net.relu("scan_out1", "end"), unknown=(net.dtype, 3))


def _function(*ops: onnx.NodeProto, inputs: list[str], name: str = "Block") -> onnx.FunctionProto:
    return helper.make_function(
        "own", name, inputs, ["y"], list(ops), [helper.make_opsetid("", 17)]
    )


def _block(calls: int) -> onnx.ModelProto:
    """A function of conv and BN, called with weights of its own each time."""
    net = Net()
    nodes = (
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"], name="bn"),
    )
    net.functions.append(_function(*nodes, inputs=["x", "w", "g", "b", "m", "v"]))
    y = net.input("N", 3, "H", "W")
    for i in range(calls):
        weights = [net.weight(3, 3, 1, 1, name=f"w{i}")]
        weights += [net.weight(3, low=0.5, name=f"{k}{i}") for k in "gbmv"]
        call = helper.make_node("Block", [y, *weights], [f"y{i}"], name=f"call{i}", domain="own")
        net.nodes.append(call)
        y = net.relu(f"y{i}", f"relu{i}")
    return net.model(y)


TABLE.add({"bn__1": back("conv__1")}, name="function", after="Conv Relu", doubles=False)(
    partial(_block, 1)
)
TABLE.add(
    {"bn__1": back("conv__1"), "bn__2": back("conv__2")}, name="function_called_twice",
    after="Conv Relu Conv Relu", doubles=False,
)(partial(_block, 2))  # fmt: skip


@TABLE.add({"bn": keep("opaque_reader", "Gate 'call'")}, doubles=False)
def function_without_linear_layers_stays() -> onnx.ModelProto:
    net = Net()
    nodes = [helper.make_node("Mul", ["x", "x"], ["y"])]
    net.functions.append(_function(*nodes, inputs=["x"], name="Gate"))
    y = net.bn(net.relu(net.input("N", 3, "H", "W")), 3)
    net.nodes.append(helper.make_node("Gate", [y], ["gated"], name="call", domain="own"))
    return net.model(net.relu("gated", "end"))


@TABLE.add({"bn_1": ahead("next_1"), "bn_2": back("conv_2")}, doubles=False)
def forward_inside_a_body() -> onnx.ModelProto:
    inner = Net(seed=1)
    y = inner.bn(inner.relu("x", "inner"), 3, "bn_1")
    inner.conv(y, 3, 4, (1, 1), "next_1")
    return _if(inner, _branch(2))


@TABLE.add({"bn": back("conv"), "bn#2": back("conv#2")}, after="If Conv Conv Relu", doubles=False)
def if_bodies_that_use_the_same_names() -> onnx.ModelProto:
    """Sibling bodies may: each is a scope of its own."""
    branches = []
    for i in (1, 2):
        branch = Net(seed=i)
        branch.bn(branch.conv("x", 3, 4, (1, 1)), 4)
        branches.append(branch)
    return _if(*branches)


@TABLE.add({"bn": back("conv")}, doubles=False)
def norm_captured_by_if_bodies() -> onnx.ModelProto:
    """They read what comes behind the norm, which is what the convolution gives after the fold."""
    outer = Net()
    outer.bn(outer.conv(outer.input("N", 3, "H", "W"), 3, 4, (1, 1)), 4)
    branches = []
    for op in ("Tanh", "Sigmoid"):
        branch = Net()
        branch.op(op, "bn_out", name=op.lower())
        branches.append(branch)
    return _if(*branches, outer=outer)


@TABLE.add({"bn": back("conv")}, doubles=False)
def weight_captured_by_if_bodies() -> onnx.ModelProto:
    """The bodies keep the weight as it was; the convolution outside gets a copy."""
    outer = Net()
    outer.bn(outer.conv(outer.input("N", 3, "H", "W"), 3, 4, (1, 1)), 4)
    branches = []
    for op in ("Tanh", "Sigmoid"):
        branch = Net()
        branch.op(op, branch.op("Conv", "x", "conv.weight", name=f"in_{op}"), name=op.lower())
        branches.append(branch)
    return _if(*branches, outer=outer, also=("bn_out",))


@TABLE.add({"y": back("c__1")}, after="Conv Relu", doubles=False)
def function_in_a_function_with_an_attribute() -> onnx.ModelProto:
    """The inner one's epsilon is an attribute that the outer one sets."""
    norm = helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"])
    epsilon = norm.attribute.add(name="epsilon", type=onnx.AttributeProto.FLOAT)
    epsilon.ref_attr_name = "epsilon"
    names, opset = ["g", "b", "m", "v"], helper.make_opsetid("", 17)
    inner = helper.make_function("own", "Inner", ["c", *names], ["y"], [norm], [opset], ["epsilon"])
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Inner", ["c", *names], ["y"], domain="own", epsilon=0.5),
    ]
    outer = helper.make_function(
        "own", "Outer", ["x", "w", *names], ["y"], nodes, [opset, helper.make_opsetid("own", 1)]
    )
    net = Net()
    net.functions += [outer, inner]
    weights = [net.weight(4, 3, 1, 1), *(net.weight(4, low=0.5) for _ in names)]
    x = net.input("N", 3, "H", "W")
    net.nodes.append(helper.make_node("Outer", [x, *weights], ["y"], domain="own"))
    return net.model(net.relu("y"))


@TABLE.add({"bn": back("conv")}, doubles=False)
def function_of_another_operator_set() -> onnx.ModelProto:
    """It cannot be inlined as it is; the rest of the model folds all the same."""
    net = Net()
    function = _function(helper.make_node("Conv", ["x", "w"], ["y"]), inputs=["x", "w"])
    function.opset_import[0].version = 13
    net.functions.append(function)
    y = net.bn(net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1)), 4)
    weight = net.weight(4, 4, 1, 1)
    net.nodes.append(helper.make_node("Block", [y, weight], ["y"], name="call", domain="own"))
    return net.model(net.relu("y"))
