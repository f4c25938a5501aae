"""Tensors of an ONNX file: where their bytes lie, and how they come and go as NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bnfold.errors import ModelError
from bnfold.formats.onnx.file.wire import EMBEDDED


class TensorStore:
    """Loads tensors of one model file, wherever their bytes lie, when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def place(self, tensor: onnx.TensorProto) -> tuple[Path, int, int] | None:
        """``(file, offset, length)`` of a tensor outside the skeleton, None where it is inside.

        Raises:
            ModelError: where external data would lie outside the model's folder, or is missing.
        """
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return None
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = self.path if location == EMBEDDED else self._external(location)
        try:
            size = file.stat().st_size
        except OSError:
            raise ModelError(
                f"the external data file {location} is missing; keep it beside {self.path.name}"
            ) from None
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", size - offset))
        if offset < 0 or length < 0 or offset + length > size:
            raise ModelError(
                f"the external data file {location} is too short for tensor {tensor.name}; "
                "copy it again"
            )
        return file, offset, length

    def load(self, tensor: onnx.TensorProto) -> NDArray[Any]:
        """The elements, mapped from the file where they lie outside the skeleton."""
        place = self.place(tensor)
        if place is None:
            return np.asarray(numpy_helper.to_array(tensor))
        file, offset, length = place
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        shape = tuple(tensor.dims)
        wanted = int(np.prod(shape)) * dtype.itemsize
        if wanted != length:
            raise ModelError(f"tensor {tensor.name} has {length} bytes where {wanted} are due")
        if not wanted:
            return np.zeros(shape, dtype)
        return np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape)

    def bring_in(self, tensors: Iterable[onnx.TensorProto]) -> None:
        """Loads external data of ``tensors`` into the tensors themselves."""
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                tensor.CopyFrom(tensor_of(np.asarray(self.load(tensor)), tensor.name))

    def external_files(self, model: onnx.ModelProto) -> set[Path]:
        """The files beside the model that hold its external data."""
        places = (self.place(t) for t in model.graph.initializer)
        return {place[0] for place in places if place} - {self.path}

    def _external(self, location: str) -> Path:
        folder = self.path.parent
        refusal = ModelError(
            f"external data at {location!r} lies outside the model's folder and is not read; "
            f"put it beside {self.path.name}"
        )
        inside = os.path.normpath(location)
        if not location or os.path.isabs(location) or inside.split(os.sep)[0] == os.pardir:
            raise refusal
        file = folder / inside
        homes = (folder.resolve(), self.path.resolve().parent)
        if not any(file.resolve().is_relative_to(home) for home in homes):
            raise refusal
        return file


def tensor_of(array: NDArray[Any], name: str) -> onnx.TensorProto:
    """``array`` as an initializer."""
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
