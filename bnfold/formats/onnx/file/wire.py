"""Reading and writing ONNX files without holding their weights.

An ONNX file is a protobuf message; a trained one is mostly the ``raw_data`` of initializers. The
scanner below walks over the wire format, leaves large payloads where they are and notes their place
in the tensor, as if they were external data of the file itself. The writer streams them across.
Wire format: https://protobuf.dev/programming-guides/encoding (varint tags, length-delimited fields).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import onnx
from google.protobuf.message import DecodeError

from bnfold.errors import ModelError
from bnfold.files import SourceFile

# The location of a payload that lies in the model file itself: a word that no file can know.
EMBEDDED = f"*embedded {secrets.token_hex(16)}*"
LARGE = 4096

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9
_LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}


class _Damaged(Exception):
    """The bytes are no protobuf message, or end too early."""


def read_skeleton(source: SourceFile) -> onnx.ModelProto:
    """The model in a file, with every large initializer's payload left there.

    Raises:
        ModelError: where the file is truncated, changed meanwhile or no ONNX model.
    """
    path = source.path
    if not source.size:
        raise ModelError(f"{path} is empty; the model was not written completely")
    try:
        skeleton = b"".join(_without_payloads(_Window(source)))
        model: onnx.ModelProto = onnx.ModelProto.FromString(skeleton)
    except _Damaged as error:
        raise ModelError(f"{path} is no intact ONNX model ({error}); export it again") from None
    except DecodeError:
        raise ModelError(f"{path} is no intact ONNX model; export it again") from None
    if not model.HasField("graph") or not model.opset_import:
        raise ModelError(f"{path} is no ONNX model: it holds no graph with an operator set")
    return model


class _Window:
    """A file as a sequence of bytes, of which one stretch is in memory."""

    _STRETCH = 1 << 20

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._start = self._end = 0
        self._bytes = bytearray()

    def __len__(self) -> int:
        return self._source.size

    def byte(self, at: int) -> int:
        if not self._start <= at < self._end:
            self._start = at
            self._bytes = self._source.read(at, min(self._STRETCH, len(self) - at))
            self._end = at + len(self._bytes)
        return self._bytes[at - self._start]

    def part(self, start: int, end: int) -> bytes:
        if self._start <= start and end <= self._end:
            return bytes(self._bytes[start - self._start : end - self._start])
        return bytes(self._source.read(start, end - start))


@dataclass(frozen=True)
class Payload:
    """The bytes of one tensor: how many, and how to write them when their turn comes."""

    length: int
    write: Callable[[BinaryIO], None]


def write_model(model: onnx.ModelProto, payloads: Mapping[str, Payload], target: BinaryIO) -> None:
    """Writes ``model``; initializers named in ``payloads`` get their ``raw_data`` from there."""
    graph = model.graph
    streamed = [tensor for tensor in graph.initializer if tensor.name in payloads]
    skeleton = onnx.GraphProto()
    skeleton.CopyFrom(graph)
    del skeleton.initializer[:]
    skeleton.initializer.extend(t for t in graph.initializer if t.name not in payloads)
    head = skeleton.SerializeToString()
    outer = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.number != _MODEL_GRAPH:
            _copy_field(outer, field.name, value)
    target.write(outer.SerializeToString())
    starts = [_tensor_head(tensor, payloads[tensor.name].length) for tensor in streamed]
    bodies = [
        (start, payloads[tensor.name]) for tensor, start in zip(streamed, starts, strict=True)
    ]
    total = len(head) + sum(_framed(len(start) + payload.length) for start, payload in bodies)
    target.write(_tag(_MODEL_GRAPH) + _varint(total) + head)
    for start, payload in bodies:
        target.write(_tag(_GRAPH_INITIALIZER) + _varint(len(start) + payload.length) + start)
        payload.write(target)


def _copy_field(target: onnx.ModelProto, name: str, value: Any) -> None:
    if isinstance(value, str | int | float | bytes):
        setattr(target, name, value)
    elif hasattr(value, "CopyFrom"):
        getattr(target, name).CopyFrom(value)
    else:
        getattr(target, name).extend(value)


def _without_payloads(data: _Window) -> Iterator[bytes]:
    for number, start, body, end in _fields(data, 0, len(data)):
        if number != _MODEL_GRAPH:
            yield data.part(start, end)
            continue
        graph = b"".join(_graph_without_payloads(data, body, end))
        yield _tag(_MODEL_GRAPH) + _varint(len(graph)) + graph


def _graph_without_payloads(data: _Window, body: int, end: int) -> Iterator[bytes]:
    for number, start, inner, stop in _fields(data, body, end):
        if number != _GRAPH_INITIALIZER or stop - inner < LARGE:
            yield data.part(start, stop)
            continue
        tensor = _tensor_without_payload(data, inner, stop)
        yield _tag(_GRAPH_INITIALIZER) + _varint(len(tensor)) + tensor


def _tensor_without_payload(data: _Window, body: int, end: int) -> bytes:
    pieces, place = [], None
    for number, start, inner, stop in _fields(data, body, end):
        if number == _TENSOR_RAW_DATA and stop - inner >= LARGE:
            place = inner, stop - inner
        else:
            pieces.append(data.part(start, stop))
    if place is not None:
        note = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
        for key, value in zip(("location", "offset", "length"), (EMBEDDED, *place), strict=True):
            note.external_data.add(key=key, value=str(value))
        pieces.append(note.SerializeToString())
    return b"".join(pieces)


def _tensor_head(tensor: onnx.TensorProto, length: int) -> bytes:
    """All of a tensor but its payload, the payload's own header included."""
    plain = onnx.TensorProto()
    plain.CopyFrom(tensor)
    for field in ("external_data", "data_location", "raw_data"):
        plain.ClearField(field)
    return bytes(plain.SerializeToString()) + _tag(_TENSOR_RAW_DATA) + _varint(length)


def _fields(data: _Window, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """``(number, start, body, end)`` of each field between two offsets."""
    while at < end:
        start = at
        key, at = _read_varint(data, at, end)
        wire, body = key & 7, at
        if wire == _LENGTH_DELIMITED:
            length, body = _read_varint(data, at, end)
            at = body + length
        elif wire == 0:
            _, at = _read_varint(data, at, end)
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise _Damaged("unknown wire type")
        if at > end:
            raise _Damaged("it ends too early")
        yield key >> 3, start, body, at


def _read_varint(data: _Window, at: int, end: int) -> tuple[int, int]:
    result = shift = 0
    while at < end and shift < 70:
        byte = data.byte(at)
        result |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return result, at
        shift += 7
    raise _Damaged("it ends too early")


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _tag(number: int) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED)


def _framed(length: int) -> int:
    """The size of an initializer field with a body of ``length`` bytes."""
    return len(_tag(_GRAPH_INITIALIZER)) + len(_varint(length)) + length
