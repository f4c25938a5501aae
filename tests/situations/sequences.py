"""Splits written as sequences, as the newer torch exporter does: cut by one node, picked by others."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from situations.build import Net, Table, ahead, back, body, keep

TABLE = Table()


def _number(net: Net, value: int) -> str:
    return net.const(np.array(value, np.int64))


def _cut(net: Net, y: str, sizes: int | list[int] | None = None, **attributes: Any) -> str:
    given = [] if sizes is None else [net.const(np.array(sizes, np.int64))]
    return net.op("SplitToSequence", y, *given, name="cut", **{"axis": 1, **attributes})


def _pick(net: Net, cut: str, position: int, name: str | None = None) -> str:
    return net.op("SequenceAt", cut, _number(net, position), name=name or f"pick{position}")


def _conv(net: Net, channels: int = 4) -> str:
    return net.conv(net.input("N", 3, "H", "W"), 3, channels, (1, 1))


def _picked(
    sizes: int | list[int] | None, position: int, channels: int, before: int = 4, **attributes: Any
) -> onnx.ModelProto:
    """conv -> one entry of a split -> BN."""
    net = Net()
    y = _pick(net, _cut(net, _conv(net, before), sizes, **attributes), position)
    return net.model(net.relu(net.bn(y, channels)))


_ONE: dict[str, tuple[Any, ...]] = {
    "halves": (2, 1, 2),
    "uneven_chunks": (3, 1, 1),
    "sizes": ([1, 3], 1, 3),
    "position_from_the_end": ([1, 3], -2, 1),
    "single_channels": (None, 2, 1),
}
for _name, (_sizes, _position, _channels) in _ONE.items():
    TABLE.add({"bn": back("conv")}, name=f"sequence_of_{_name}")(
        partial(_picked, _sizes, _position, _channels)
    )
TABLE.add({"bn": back("conv")}, name="sequence_along_another_axis", sizes=((1, 6), (2, 7)))(
    partial(_picked, 2, 1, 4, axis=2)
)


@TABLE.add({"bn": back("conv")})
def sequence_that_drops_its_axis() -> onnx.ModelProto:
    """As torch.unbind: entries have one axis less."""
    net = Net()
    y = net.op("Unsqueeze", _conv(net), net.ints(1), name="deep")
    y = _pick(net, _cut(net, y, keepdims=0), 0)
    return net.model(net.relu(net.bn(y, 4)))


@TABLE.add({"bn_a": back("conv"), "bn_b": back("conv")})
def sequence_of_two_halves_with_norms() -> onnx.ModelProto:
    net = Net()
    cut = _cut(net, _conv(net), 2)
    a, b = (net.bn(_pick(net, cut, i), 2, f"bn_{k}") for i, k in enumerate("ab"))
    return net.model(net.relu(a), net.relu(b, "other"))


@TABLE.add({"bn": back("conv")})
def sequence_of_which_one_half_is_read_as_it_is() -> onnx.ModelProto:
    net = Net()
    cut = _cut(net, _conv(net), [1, 3])
    return net.model(_pick(net, cut, 0), net.relu(net.bn(_pick(net, cut, 1), 3)))


@TABLE.add({"bn": keep("shared_value", "SequenceAt 'again'")})
def sequence_of_which_one_entry_is_picked_twice() -> onnx.ModelProto:
    net = Net()
    cut = _cut(net, _conv(net), 2)
    return net.model(_pick(net, cut, 1, "again"), net.relu(net.bn(_pick(net, cut, 1), 2)))


@TABLE.add({"bn": ahead("conv_a", "conv_b")})
def forward_into_both_halves_of_a_sequence() -> onnx.ModelProto:
    net = Net()
    cut = _cut(net, net.bn(net.relu(net.input("N", 4, "H", "W")), 4), 2)
    a, b = (net.conv(_pick(net, cut, i), 2, 3, (1, 1), f"conv_{k}") for i, k in enumerate("ab"))
    return net.model(a, b)


@TABLE.add({"bn": back("conv_a")}, after="SplitToSequence SequenceAt Conv Conv Relu")
def weights_from_a_sequence() -> onnx.ModelProto:
    """One tensor holds the weights of two layers; the second reads its part as it was."""
    net = Net()
    cut = _cut(net, net.weight(8, 3, 1, 1), 4, axis=0)
    x = net.input("N", 3, "H", "W")
    a, b = (net.op("Conv", x, _pick(net, cut, i), name=f"conv_{k}") for i, k in enumerate("ab"))
    return net.model(net.relu(net.bn(a, 4)), b)


@TABLE.add({"bn": keep("opaque_producer", "SequenceAt 'pick1'")})
def sequence_that_is_concatenated_as_well() -> onnx.ModelProto:
    net = Net()
    cut = _cut(net, _conv(net), 2)
    whole = net.op("ConcatFromSequence", cut, name="whole", axis=1)
    return net.model(net.relu(net.bn(_pick(net, cut, 1), 2)), whole)


@TABLE.add({"bn": keep("opaque_producer", "SequenceAt 'pick1'")})
def sequence_that_grows() -> onnx.ModelProto:
    net = Net()
    cut = _cut(net, _conv(net), 2)
    longer = net.op("SequenceInsert", cut, _pick(net, cut, 0), name="longer")
    both = net.op("ConcatFromSequence", longer, name="both", axis=1)
    return net.model(net.relu(net.bn(_pick(net, cut, 1), 2)), both)


@TABLE.add({"bn": keep("opaque_producer", "SequenceAt 'pick1'")}, runs=False, doubles=False)
def sequence_that_is_a_graph_output() -> onnx.ModelProto:
    net = Net()
    cut = _cut(net, _conv(net), 2)
    model = net.model(net.relu(net.bn(_pick(net, cut, 1), 2)), cut)
    entry = helper.make_tensor_type_proto(net.dtype, None)
    model.graph.output[1].type.CopyFrom(helper.make_sequence_type_proto(entry))
    return model


@TABLE.add({"bn": keep("opaque_producer", "SequenceAt 'pick1'")}, doubles=False)
def sequence_that_a_body_reads() -> onnx.ModelProto:
    net = Net()
    cut = _cut(net, _conv(net), 2)
    y = net.relu(net.bn(_pick(net, cut, 1), 2))
    branches = []
    for position in (0, 1):
        inner = Net()
        _pick(inner, cut, position, f"inner{position}")
        branches.append(body(inner, inner.last().output[0], name=f"body{position}"))
    flag = net.input(name="flag", dtype=TensorProto.BOOL)
    then, other = branches
    net.op("If", flag, name="choice", then_branch=then, else_branch=other)
    return net.model(y, net.op("Tanh", "choice_out", name="end"))


@TABLE.add({"bn": keep("unknown_shape", "pick_out")}, sizes=((2, 6),), doubles=False)
def sequence_with_sizes_from_data() -> onnx.ModelProto:
    """Two of four channels, the numbers computed while the model runs."""
    net = Net()
    y = _conv(net)
    peak = net.op("ReduceMax", y, name="peak", keepdims=0)
    zero = net.op("Cast", net.op("Mul", peak, net.const(0.0), name="null"), name="zero",
                  to=TensorProto.INT64)  # fmt: skip
    half = net.op("Add", zero, _number(net, 2), name="half")
    y = net.op("SequenceAt", net.op("SplitToSequence", y, half, name="cut", axis=1), zero,
               name="pick")  # fmt: skip
    return net.model(net.relu(net.bn(y, 2)))


@TABLE.add({"bn": keep("opaque_producer", "SequenceAt 'pick'")}, doubles=False)
def sequence_at_a_position_that_is_an_input() -> onnx.ModelProto:
    net = Net()
    cut = _cut(net, _conv(net), 2)
    flag = net.input(name="flag", dtype=TensorProto.BOOL)
    position = net.op("Cast", flag, name="position", to=TensorProto.INT64)
    y = net.op("SequenceAt", cut, position, name="pick")
    return net.model(net.relu(net.bn(y, 2)))


@TABLE.add({"bn": keep("opaque_producer", "SequenceAt 'pick1'")}, doubles=False)
def sequence_with_overridable_sizes() -> onnx.ModelProto:
    net = Net()
    y = net.op("SplitToSequence", _conv(net), net.const(np.array([2, 2]), "sizes"), name="cut",
               axis=1)  # fmt: skip
    net.input(2, name="sizes", dtype=TensorProto.INT64)
    return net.model(net.relu(net.bn(_pick(net, y, 1), 2)))
