"""What must stay because of the normalisation itself, or because of who else is looking."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx

from situations.build import Net, Table, ahead, back, both, keep

TABLE = Table()


def _statistics(**vectors: Any) -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    return net.model(net.relu(net.bn(y, 4, **vectors)))


for _field, _label in (
    ("mean", "mean"),
    ("variance", "variance"),
    ("scale", "scale"),
    ("shift", "shift"),
):
    for _value in (np.nan, np.inf):
        TABLE.add(
            {"bn": keep("non_finite_statistics", _label)}, name=f"{_field}_holds_{_value}",
            doubles=False,
        )(partial(_statistics, **{_field: [1.0, 1.0, _value, 1.0]}))  # fmt: skip
TABLE.add({"bn": keep("negative_variance")}, name="negative_variance", doubles=False)(
    partial(_statistics, variance=[1.0, -1e-3, 1.0, 1.0])
)
TABLE.add({"bn": keep("negative_variance")}, name="negative_variance_below_epsilon")(
    partial(_statistics, variance=[1.0, -1e-6, 1.0, 1.0])
)
TABLE.add({"bn": keep("zero_variance")}, name="zero_variance_without_epsilon", doubles=False)(
    partial(_statistics, variance=[1.0, 0.0, 1.0, 1.0], epsilon=0.0)
)
TABLE.add({"bn": back("conv")}, name="zero_variance_with_epsilon", tolerance=1e-4)(
    partial(_statistics, variance=[1.0, 0.0, 1.0, 1.0])
)
TABLE.add({"bn": back("conv")}, name="no_epsilon", tolerance=1e-4)(
    partial(_statistics, epsilon=0.0)
)
TABLE.add({"bn": back("conv")}, name="epsilon_of_keras")(partial(_statistics, epsilon=1e-3))


def _training(opset: int, outputs: int, used: int = 0, **attributes: Any) -> onnx.ModelProto:
    net = Net(opset=opset)
    y = net.conv(net.input(2, 3, 5, 5), 3, 4, (1, 1))
    y = net.bn(y, 4, outputs=outputs, **attributes)
    used_names = [f"bn_out{i}" for i in range(1, used + 1)]
    return net.model(net.relu(y), *used_names, unknown=(net.dtype, 1 if used else 4))


TABLE.add({"bn": keep("training_mode")}, name="training_mode_opset_14", doubles=False)(
    partial(_training, 17, 3, training_mode=1)
)
TABLE.add({"bn": keep("statistics_in_use", "bn_out1")}, name="training_mode_statistics_in_use",
          doubles=False)(
    partial(_training, 17, 3, 2, training_mode=1)
)  # fmt: skip
for _opset in (7, 9, 13):
    TABLE.add({"bn": keep("training_mode")}, name=f"five_outputs_opset_{_opset}", runs=False,
              doubles=False)(partial(_training, _opset, 5))  # fmt: skip
    TABLE.add({"bn": back("conv")}, name=f"one_output_opset_{_opset}", doubles=False)(
        partial(_training, _opset, 1)
    )
TABLE.add({"bn": keep("statistics_in_use", "bn_out1")}, name="five_outputs_one_in_use", runs=False,
          doubles=False)(
    partial(_training, 9, 5, 1)
)  # fmt: skip
TABLE.add({"bn": keep("training_mode")}, name="opset_6_without_is_test", runs=False, doubles=False)(
    partial(_training, 6, 1)
)
TABLE.add({"bn": back("conv")}, name="opset_6_is_test", runs=False, doubles=False)(
    partial(_training, 6, 1, is_test=1)
)
TABLE.add({"bn": back("conv")}, name="opset_5_consumed_inputs", runs=False, doubles=False)(
    partial(_training, 5, 1, is_test=1, consumed_inputs=[0, 0, 0, 1, 1])
)
TABLE.add({"bn": keep("spatial_statistics")}, name="opset_7_spatial_0", runs=False, doubles=False)(
    partial(_training, 7, 1, spatial=0)
)
TABLE.add({"bn": back("conv")}, name="opset_7_spatial_1", doubles=False)(
    partial(_training, 7, 1, spatial=1)
)


@TABLE.add({"bn": back("gemm")}, runs=False, doubles=False)
def opset_7_spatial_0_on_a_matrix() -> onnx.ModelProto:
    """There is one position only, so each channel has one statistic after all."""
    net = Net(opset=7)
    y = net.op("Gemm", net.input("N", 3), net.weight(3, 4), net.weight(4), name="gemm")
    return net.model(net.relu(net.bn(y, 4, spatial=0)))


@TABLE.add({"bn": keep("computed_statistics", "mean_out")})
def computed_statistics() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    y = net.conv(x, 3, 4, (1, 1))
    y = net.bn(y, 4)
    mean = net.op("ReduceMean", "conv_out", name="mean", axes=[0, 2, 3], keepdims=0)
    node = net.nodes.pop(-2)
    node.input[3] = mean
    net.nodes.append(node)
    return net.model(net.relu(y))


# Who else reads the values


@TABLE.add({"bn": keep("graph_output", "conv_out")})
def convolution_is_a_graph_output() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    return net.model(net.relu(net.bn(y, 4)), y)


@TABLE.add({"bn": keep("shared_value", "Sigmoid 'gate'")})
def convolution_is_read_twice() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    return net.model(net.relu(net.bn(y, 4)), net.op("Sigmoid", y, name="gate"))


@TABLE.add({"bn_a": both("conv"), "bn_b": keep("shared_value", "bn_a")})
def convolution_is_read_by_two_norms() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    a, b = net.bn(y, 4, "bn_a"), net.bn(y, 4, "bn_b")
    return net.model(net.relu(a, "relu_a"), net.relu(b, "relu_b"))


@TABLE.add({"bn": back("conv")}, doubles=False)
def convolution_is_read_for_its_shape() -> onnx.ModelProto:
    """As in LeViT: a Shape node reads sizes, no values."""
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    size = net.op("Shape", y, name="size")
    return net.model(net.relu(net.bn(y, 4)), size)


@TABLE.add({"bn": keep("shared_value")}, doubles=False)
def convolution_is_read_by_a_custom_shape() -> onnx.ModelProto:
    """Another domain's operator of the same name may read whatever it likes."""
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    twice = onnx.helper.make_node("Add", ["a", "a"], ["b"])
    net.functions.append(
        onnx.helper.make_function("own", "Shape", ["a"], ["b"], [twice],
                                  [onnx.helper.make_opsetid("", 17)])
    )  # fmt: skip
    net.nodes.append(onnx.helper.make_node("Shape", [y], ["double"], name="own", domain="own"))
    return net.model(net.op("Add", net.bn(y, 4), "double", name="sum"))


@TABLE.add({"bn": back("conv")})
def norm_is_a_graph_output() -> onnx.ModelProto:
    net = Net()
    return net.model(net.bn(net.conv(net.input("N", 3, "H", "W"), 3, 4), 4))


@TABLE.add({"bn": back("conv")})
def norm_is_a_graph_output_and_read() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.conv(net.input("N", 3, "H", "W"), 3, 4), 4)
    return net.model(net.relu(y), y, net.op("Sigmoid", y, name="gate"))


@TABLE.add({"bn": keep("reader_is_output", "bn_out")})
def norm_of_an_activation_is_a_graph_output() -> onnx.ModelProto:
    net = Net()
    return net.model(net.bn(net.relu(net.input("N", 3, "H", "W")), 3))


@TABLE.add({"bn": keep("reader_is_output", "bn_out")})
def norm_before_a_convolution_is_a_graph_output_too() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 3, "H", "W")), 3)
    return net.model(net.conv(y, 3, 4, (1, 1)), y)


@TABLE.add({"bn": keep("nonlinear_reader", "Relu 'relu'")})
def norm_on_the_graph_input() -> onnx.ModelProto:
    net = Net()
    return net.model(net.relu(net.bn(net.input("N", 3, "H", "W"), 3)))


@TABLE.add({"bn": ahead("conv")})
def norm_on_the_graph_input_before_a_convolution() -> onnx.ModelProto:
    net = Net()
    return net.model(net.conv(net.bn(net.input("N", 3, "H", "W"), 3), 3, 4))


@TABLE.add({"bn": keep("nonlinear_reader", "Relu 'second'")})
def pre_activation() -> onnx.ModelProto:
    """BN before the non-linearity and behind another one: nothing linear on either side."""
    net = Net()
    y = net.bn(net.relu(net.input("N", 3, "H", "W"), "first"), 3)
    return net.model(net.conv(net.relu(y, "second"), 3, 4))


@TABLE.add({"bn_a": back("conv"), "bn_b": ahead("next")})
def norms_around_an_activation() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.conv(net.input("N", 3, "H", "W"), 3, 4), 4, "bn_a")
    return net.model(net.conv(net.bn(net.relu(y), 4, "bn_b"), 4, 2, name="next"))


@TABLE.add({"bn": back("conv")})
def nothing_reads_the_norm() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    net.bn(net.conv(x, 3, 4), 4)
    return net.model(net.relu(x))


@TABLE.add({"bn": keep("shared_value", "Sigmoid 'gate'")})
def nothing_reads_a_norm_behind_an_activation() -> onnx.ModelProto:
    net = Net()
    y = net.relu(net.input("N", 3, "H", "W"))
    net.bn(y, 3)
    return net.model(net.op("Sigmoid", y, name="gate"))


@TABLE.add({"bn": keep("nonlinear_reader", "Relu 'relu'")})
def product_of_two_values() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    y = net.op("Mul", net.conv(x, 3, 4), net.conv(x, 3, 4, name="other"), name="gate")
    return net.model(net.relu(net.bn(y, 4)))


# Names


@TABLE.add({"bn": back("conv")})
def names_that_bnfold_would_make_up_are_taken() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W", name="conv.weight_folded")
    y = net.conv(x, 3, 4, (1, 1), bias=False)
    z = net.op("Conv", net.relu(x, "conv_bias"), "conv.weight", name="conv.weight_folded_2")
    k = net.weight(4, 1, 1, name="conv_bias_2")
    z = net.op("Add", net.op("Exp", z, name="exp"), k, name="bnfold_parameter")
    return net.model(net.relu(net.bn(y, 4)), net.op("Tanh", z, name="end"))


@TABLE.add({"b": back("a"), "e": back("d")})
def nodes_without_names() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    for source, conv, norm, end in ((x, "a", "b", "c"), ("c", "d", "e", "f")):
        net.op("Conv", source, net.weight(3, 3, 1, 1), name=conv)
        net.bn(conv, 3, norm)
        net.op("Relu", norm, name=end)
    for node in net.nodes:
        node.output[0], node.name = node.name, ""
    return net.model("f")


@TABLE.add(
    {"same": back("conv"), "same#2": back("conv_b")}, runs=False, doubles=False, after="Conv Conv"
)
def two_norms_of_one_name() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    a = net.bn(net.conv(x, 3, 4), 4, "same")
    b = net.bn(net.conv(x, 3, 4, name="conv_b"), 4, "other")
    net.last().name = "same"
    return net.model(a, b)
