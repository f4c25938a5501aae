"""Tensors of an ONNX file: where their bytes lie, and how they come and go as NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bnfold.algebra.blocks import parts_of
from bnfold.errors import ModelError
from bnfold.files import SourceFile
from bnfold.formats.onnx.file.sizes import PACKED, check_dimensions, check_elements, place_of
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
        location, offset, length = place_of(tensor)
        file = self.source if location == EMBEDDED else self._external(location)
        if offset + length > file.size:
            raise ModelError(
                f"the external data file {location!r} is too short for tensor {tensor.name!r}; "
                "copy it again"
            )
        return file, offset, length

    def check(self, tensor: onnx.TensorProto) -> None:
        """That a tensor has the elements that its dimensions say, wherever they lie.

        Raises:
            ModelError: where it has not, is of no known type, or lies where nothing is read.
        """
        check_dimensions(tensor)
        place = self.place(tensor)
        check_elements(tensor, None if place is None else place[2])

    def load(self, tensor: onnx.TensorProto) -> NDArray[Any]:
        """The elements, read from the file where they lie outside the skeleton."""
        place = self.place(tensor)
        if place is None:
            return np.asarray(numpy_helper.to_array(tensor))
        file, offset, length = place
        if tensor.data_type in PACKED:
            return _unpacked(tensor, file, offset, length)
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        shape = tuple(tensor.dims)
        if not length:
            return np.zeros(shape, dtype)
        found = np.empty(shape, dtype)
        file.read_into(offset, found.reshape(-1).view(np.uint8).data)
        found.flags.writeable = False
        return found

    def parts(self, tensor: onnx.TensorProto, counts: Sequence[int]) -> Iterator[NDArray[Any]]:
        """The elements in row-major order, so many at a time.

        Each part holds only until the next one is asked for.
        """
        place = self.place(tensor)
        if place is None or tensor.data_type in PACKED:
            yield from parts_of(self.load(tensor))(counts)
            return
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        file, offset, _ = place
        for part in file.parts(offset, [count * dtype.itemsize for count in counts]):
            yield np.frombuffer(part, dtype)

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
        if (
            not location
            or "\0" in location
            or os.path.isabs(location)
            or inside.split(os.sep)[0] == os.pardir
        ):
            raise refusal
        file = folder / inside
        homes = (folder.resolve(), self.path.resolve().parent)
        try:
            if not any(file.resolve().is_relative_to(home) for home in homes):
                raise refusal
            if file not in self._sources:
                if file.is_dir():
                    raise ModelError(
                        f"the external data file {location!r} is no file; export the model again"
                    )
                self._sources[file] = SourceFile(file)
        except OSError:  # also where no file can have such a name
            raise ModelError(
                f"the external data file {location!r} is missing; keep it beside {self.path.name}"
            ) from None
        return self._sources[file]


def _unpacked(tensor: onnx.TensorProto, file: SourceFile, offset: int, length: int) -> NDArray[Any]:
    """Elements of which several share a byte."""
    whole = onnx.TensorProto(dims=tensor.dims, data_type=tensor.data_type)
    whole.raw_data = bytes(file.read(offset, length))
    return np.asarray(numpy_helper.to_array(whole))


def raw_bytes(blocks: Iterator[NDArray[Any]], code: int) -> Iterator[bytes | memoryview]:
    """Elements as a file stores them, each block until the next is asked for; where several
    elements share a byte, all at once."""
    if code in PACKED:
        whole = np.concatenate([np.array(block).reshape(-1) for block in blocks])
        yield tensor_of(whole, "").raw_data
        return
    for block in blocks:
        yield np.ascontiguousarray(block).reshape(-1).view(np.uint8).data


def tensor_of(array: NDArray[Any], name: str) -> onnx.TensorProto:
    """``array`` as an initializer."""
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
