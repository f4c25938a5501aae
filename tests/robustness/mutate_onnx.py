"""ONNX models damaged with an eye for their structure: fields of the message, then its bytes."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_INTEGERS = (0, 1, -1, 2, 3, 7, 99, 1 << 20, (1 << 31) - 1, -(1 << 31), 1 << 40, (1 << 63) - 1)
_FLOATS = (0.0, -1.0, 1.0, 1e-45, 1e38, float("nan"), float("inf"), -float("inf"))
_TEXTS = (
    "",
    "\x1b[31mred\x1b[0m",
    "a\nb",
    "::error::no",
    "../../etc/passwd",
    "x" * 300,
    "é\u202e",
    "\0",
)
_OPERATORS = (
    "Relu Conv BatchNormalization Add Mul Transpose Reshape Concat Gemm MatMul Split Identity Shape "
    "Constant MaxPool AveragePool Flatten If Loop Resize Pad Cast Slice Gather Sum Dropout"
).split()


def mutated(model: onnx.ModelProto, rng: random.Random) -> bytes:
    """The bytes of ``model`` after one to three mutations."""
    data = changed(model, rng, rng.choice((1, 1, 1, 2, 3))).SerializeToString()
    return _damaged_bytes(data, rng) if rng.random() < 0.1 else data


def changed(model: onnx.ModelProto, rng: random.Random, times: int = 1) -> onnx.ModelProto:
    """``model`` after some mutations, still a well-formed message."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    for _ in range(times):
        rng.choices((_change_field, _change_graph), (2, 1))[0](found, rng)
    return found


def _damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    if not data or rng.random() < 0.3:
        return data[: rng.randrange(len(data) + 1)]
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 32))):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _change_graph(model: onnx.ModelProto, rng: random.Random) -> None:
    """Damage that keeps the message well formed: other nodes, names, types, versions."""
    if model.graph.node:
        rng.choice(_GRAPH_CHANGES)(model, rng)


def _swap_nodes(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _drop_node(model: onnx.ModelProto, rng: random.Random) -> None:
    del model.graph.node[rng.randrange(len(model.graph.node))]


def _repeat_node(model: onnx.ModelProto, rng: random.Random) -> None:
    model.graph.node.add().CopyFrom(rng.choice(model.graph.node))


def _other_operator(model: onnx.ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(_OPERATORS)


def _other_input(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    names = [n for each in model.graph.node for n in (*each.input, *each.output)]
    if node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice([*names, ""])


def _other_output(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    names = [n for each in model.graph.node for n in (*each.input, *each.output)]
    if node.output:
        node.output[rng.randrange(len(node.output))] = rng.choice([*names, ""])


def _other_dimension(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.graph.initializer:
        tensor = rng.choice(model.graph.initializer)
        if tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_INTEGERS)


def _other_input_dimension(model: onnx.ModelProto, rng: random.Random) -> None:
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if rng.random() < 0.4:
                dim.dim_value = rng.choice(_INTEGERS)


def _other_version(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.opset_import:
        rng.choice(model.opset_import).version = rng.choice((*range(30), *_INTEGERS))


def _other_statistic(model: onnx.ModelProto, rng: random.Random) -> None:
    """Numbers, not structure: the a float of a tensor."""
    for tensor in rng.sample(list(model.graph.initializer), min(2, len(model.graph.initializer))):
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.raw_data) >= 4:
            at = 4 * rng.randrange(len(tensor.raw_data) // 4)
            number = struct.pack("<f", rng.choice(_FLOATS))
            tensor.raw_data = tensor.raw_data[:at] + number + tensor.raw_data[at + 4 :]


def _go_outside(model: onnx.ModelProto, rng: random.Random) -> None:
    """Says that a tensor lies in another file."""
    if not model.graph.initializer:
        return
    tensor = rng.choice(model.graph.initializer)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    places = (
        "m.onnx.data",
        "model.onnx",
        ".",
        "",
        "../x",
        "/etc/passwd",
        "\0",
        "missing",
        "a" * 5000,
    )
    numbers = ("0", "-1", "abc", "1e3", "4096", "", "9" * 30, " 4", "\u0664")
    choices = {"location": places, "offset": numbers, "length": numbers}
    for key, values in choices.items():
        if rng.random() < 0.7:
            tensor.external_data.add(key=key, value=rng.choice(values))
    if rng.random() < 0.7:
        tensor.ClearField("raw_data")


_GRAPH_CHANGES: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    _swap_nodes, _drop_node, _repeat_node, _other_operator, _other_input, _other_output,
    _other_dimension, _other_input_dimension, _other_version, _other_statistic, _go_outside,
)  # fmt: skip


def _change_field(model: onnx.ModelProto, rng: random.Random) -> None:
    """One field somewhere, attributes and nodes more often than the many numbers of tensors."""
    places = list(_fields(model))
    message, field = rng.choice(places)
    if _is_repeated(field):
        _change_list(message, field, rng)
    elif rng.random() < 0.2:
        message.ClearField(field.name)
    elif field.type != FieldDescriptor.TYPE_MESSAGE:
        setattr(message, field.name, _other(getattr(message, field.name), field, rng))


def _fields(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    for field, value in message.ListFields():
        yield message, field
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if _is_repeated(field) else (value,):
                yield from _fields(inner)


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _change_list(message: Message, field: FieldDescriptor, rng: random.Random) -> None:
    values = getattr(message, field.name)
    at = rng.randrange(len(values))
    how = rng.randrange(4)
    if how == 0:
        del values[at]
    elif how == 1 and field.type == FieldDescriptor.TYPE_MESSAGE:
        values.add().CopyFrom(values[at])
    elif how == 1:
        values.append(values[at])
    elif how == 2 and rng.random() < 0.3:
        del values[:]
    elif field.type != FieldDescriptor.TYPE_MESSAGE:
        values[at] = _other(values[at], field, rng)


def _other(value: Any, field: FieldDescriptor, rng: random.Random) -> Any:
    """Another value of the field's type, near the edges."""
    if field.type == FieldDescriptor.TYPE_ENUM:
        return rng.choice([v.number for v in field.enum_type.values])
    if isinstance(value, str):
        return rng.choice((*_TEXTS, value[:-1], value + "0"))
    if isinstance(value, bytes):
        return rng.choice((b"", value[:-1], value[: len(value) // 2], value + b"\0", b"\xff" * 4))
    if isinstance(value, float):
        return rng.choice(_FLOATS)
    chosen = rng.choice((*_INTEGERS, value + 1, value - 1))
    small = field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32)
    return max(min(chosen, (1 << 31) - 1), -(1 << 31)) if small else min(chosen, (1 << 63) - 1)
