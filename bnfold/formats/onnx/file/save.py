"""Writing an edited model: structure, tensors carried across, tensors computed on the way."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.files import SourceFile, content_name
from bnfold.formats.onnx.file.sizes import PACKED
from bnfold.formats.onnx.file.tensors import TensorStore, raw_bytes
from bnfold.formats.onnx.file.wire import LARGE, Payload, write_model

Compute = Callable[[], Iterator[NDArray[Any]]]

_ALIGNMENT = 64
_INLINE_LIMIT = (1 << 31) - (1 << 24)  # protobuf holds 2 GiB, structure included


def save(
    model: onnx.ModelProto,
    store: TensorStore,
    computed: Mapping[str, Compute],
    path: Path,
    *,
    external: bool = False,
) -> list[Path]:
    """Writes ``model`` to ``path`` and returns the files written, the one to open last.

    Tensors in ``computed`` come from there, all others from where ``store`` finds them. A model
    with external data gets one data file beside it, named by its content.

    Args:
        model: the structure; its fields are left as they are.
        store: where unchanged tensors lie.
        computed: new elements by initializer name, in blocks, asked for one at a time.
        path: the file to write.
        external: write a data file even where all that was external is computed anew.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    payloads = _payloads(result, store, computed)
    size = sum(payload.length for payload in payloads.values())
    files = []
    if external or store.external_files(model) or size > _INLINE_LIMIT:
        files.append(_save_data(result, payloads, path))
        payloads = {}
    with path.open("wb") as target:
        write_model(result, payloads, target)
    return [*files, path]


def _save_data(model: onnx.ModelProto, payloads: dict[str, Payload], path: Path) -> Path:
    """Writes the payloads into a file beside ``path``, and their places in it into ``model``."""
    unnamed = path.with_name(f"{path.name}.data")
    with unnamed.open("wb") as file:
        target = _Hashed(file)
        placed = _write_external(model, payloads, cast(BinaryIO, target))
    data = path.with_name(content_name(path.name, target.digest.hexdigest()))
    unnamed.rename(data)
    for tensor in placed:
        tensor.external_data.add(key="location", value=data.name)
    return data


class _Hashed(io.BufferedIOBase):
    """A file to write to, whose hash is taken on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, piece: Any) -> int:
        self.digest.update(piece)
        return self._file.write(piece)

    def tell(self) -> int:
        return self._file.tell()


def _payloads(
    model: onnx.ModelProto,
    store: TensorStore,
    computed: Mapping[str, Compute],
) -> dict[str, Payload]:
    """The payload of every tensor that is not inside the structure."""
    payloads = {}
    for tensor in model.graph.initializer:
        if tensor.name in computed:
            payloads[tensor.name] = _computed(tensor, computed[tensor.name])
        elif place := store.place(tensor):
            payloads[tensor.name] = _carried(*place)
    return payloads


def _computed(tensor: onnx.TensorProto, compute: Compute) -> Payload:
    itemsize = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    packed = PACKED.get(tensor.data_type)
    count = int(np.prod(tensor.dims))
    length = -(-count * packed // 8) if packed else count * itemsize

    def write(target: BinaryIO) -> None:
        for block in raw_bytes(compute(), tensor.data_type):
            target.write(block)

    return Payload(length, write)


def _carried(file: SourceFile, offset: int, length: int) -> Payload:
    def write(target: BinaryIO) -> None:
        for piece in file.pieces(offset, length):
            target.write(piece)

    return Payload(length, write)


def _write_external(
    model: onnx.ModelProto, payloads: dict[str, Payload], target: BinaryIO
) -> list[onnx.TensorProto]:
    """Writes the payloads one after the other; returns the tensors that lack the file's name."""
    placed = []
    for tensor in model.graph.initializer:
        payload = payloads.get(tensor.name)
        if payload is None:
            continue
        if payload.length < LARGE:
            small = io.BytesIO()
            payload.write(small)
            _clear_place(tensor)
            tensor.raw_data = small.getvalue()
            continue
        target.write(b"\0" * (-target.tell() % _ALIGNMENT))
        _clear_place(tensor)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("offset", target.tell()), ("length", payload.length)):
            tensor.external_data.add(key=key, value=str(value))
        payload.write(target)
        placed.append(tensor)
    return placed


def _clear_place(tensor: onnx.TensorProto) -> None:
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
