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
from bnfold.files import SourceFile
from bnfold.formats.onnx.file.wire import EMBEDDED


class TensorStore:
    """Loads tensors of one model file, wherever their bytes lie, when they are asked for.

    Nothing is mapped: see `bnfold.files.source`.
    """

    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.path = source.path
        self._sources = {source.path: source}

    @property
    def files(self) -> list[Path]:
        """The model file, and those beside it that were read from."""
        return list(self._sources)

    def check_unchanged(self) -> None:
        """Compares all files with what they were when they were first read.

        Raises:
            ModelError: where one was replaced or written to meanwhile.
        """
        for source in self._sources.values():
            source.check()

    def place(self, tensor: onnx.TensorProto) -> tuple[SourceFile, int, int] | None:
        """``(file, offset, length)`` of a tensor outside the skeleton, None where it is inside.

        Raises:
            ModelError: where external data would lie outside the model's folder, or is missing.
        """
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return None
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = self.source if location == EMBEDDED else self._external(location)
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", file.size - offset))
        if offset < 0 or length < 0 or offset + length > file.size:
            raise ModelError(
                f"the external data file {location} is too short for tensor {tensor.name}; "
                "copy it again"
            )
        return file, offset, length

    def load(self, tensor: onnx.TensorProto) -> NDArray[Any]:
        """The elements, read from the file where they lie outside the skeleton."""
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
        found = np.empty(shape, dtype)
        file.read_into(offset, found.reshape(-1).view(np.uint8).data)
        found.flags.writeable = False
        return found

    def bring_in(self, tensors: Iterable[onnx.TensorProto]) -> None:
        """Loads external data of ``tensors`` into the tensors themselves."""
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                tensor.CopyFrom(tensor_of(np.asarray(self.load(tensor)), tensor.name))

    def external_files(self, model: onnx.ModelProto) -> set[Path]:
        """The files beside the model that hold its external data."""
        places = (self.place(t) for t in model.graph.initializer)
        return {place[0].path for place in places if place} - {self.path}

    def _external(self, location: str) -> SourceFile:
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
        if file not in self._sources:
            try:
                self._sources[file] = SourceFile(file)
            except OSError:
                raise ModelError(
                    f"the external data file {location} is missing; keep it beside {self.path.name}"
                ) from None
        return self._sources[file]


def tensor_of(array: NDArray[Any], name: str) -> onnx.TensorProto:
    """``array`` as an initializer."""
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
