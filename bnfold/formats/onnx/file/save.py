"""Writing an edited model: structure, tensors carried across, tensors computed on the way."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.formats.onnx.file.tensors import TensorStore
from bnfold.formats.onnx.file.wire import LARGE, Payload, copy_range, write_model

_ALIGNMENT = 64
_INLINE_LIMIT = (1 << 31) - (1 << 24)  # protobuf holds 2 GiB, structure included


def save(
    model: onnx.ModelProto,
    store: TensorStore,
    computed: Mapping[str, Callable[[], NDArray[Any]]],
    path: Path,
    data_name: str | None = None,
) -> list[Path]:
    """Writes ``model`` to ``path`` and returns the files written, the one to open last.

    Tensors in ``computed`` come from there, all others from where ``store`` finds them. A model
    with external data gets one data file beside it.

    Args:
        model: the structure; its fields are left as they are.
        store: where unchanged tensors lie.
        computed: new elements by initializer name, asked for one at a time.
        path: the file to write.
        data_name: the name of the data file, ``<name>.data`` by default.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    payloads = _payloads(result, store, computed)
    external = bool(store.external_files(model)) or (
        sum(payload.length for payload in payloads.values()) > _INLINE_LIMIT
    )
    files = []
    if external:
        data = path.with_name(data_name or f"{path.name}.data")
        files.append(data)
        with data.open("wb") as target:
            _write_external(result, payloads, target, data.name)
        payloads = {}
    with path.open("wb") as target:
        write_model(result, payloads, target)
    return [*files, path]


def _payloads(
    model: onnx.ModelProto,
    store: TensorStore,
    computed: Mapping[str, Callable[[], NDArray[Any]]],
) -> dict[str, Payload]:
    """The payload of every tensor that is not inside the structure."""
    payloads = {}
    for tensor in model.graph.initializer:
        if tensor.name in computed:
            payloads[tensor.name] = _computed(tensor, computed[tensor.name])
        elif place := store.place(tensor):
            payloads[tensor.name] = _carried(*place)
    return payloads


def _computed(tensor: onnx.TensorProto, compute: Callable[[], NDArray[Any]]) -> Payload:
    itemsize = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    length = int(np.prod(tensor.dims)) * itemsize

    def write(target: BinaryIO) -> None:
        target.write(np.ascontiguousarray(compute()).tobytes())

    return Payload(length, write)


def _carried(file: Path, offset: int, length: int) -> Payload:
    def write(target: BinaryIO) -> None:
        with file.open("rb") as source:
            copy_range(source, offset, length, target)

    return Payload(length, write)


def _write_external(
    model: onnx.ModelProto, payloads: dict[str, Payload], target: BinaryIO, location: str
) -> None:
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
        entries = {"location": location, "offset": target.tell(), "length": payload.length}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        payload.write(target)


def _clear_place(tensor: onnx.TensorProto) -> None:
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
