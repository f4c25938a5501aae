"""NumPy files: ``.npy`` for one input, ``.npz`` with arrays named as the inputs."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bnfold.data.signature import InputSpec
from bnfold.data.source import Arrays, Indices, SampleOptions
from bnfold.data.stored import StoredArray
from bnfold.data.temporary import check_room, temporary_folder
from bnfold.errors import DataError
from bnfold.files import SourceFile, check_ratio

_IN_MEMORY = 1 << 26
# What NumPy raises on a damaged header or archive: it takes the header for Python code.
_DAMAGE = (
    ValueError, OSError, EOFError, SyntaxError, TokenError, RuntimeError, NotImplementedError,
    zlib.error, zipfile.BadZipFile,
)  # fmt: skip


AnyArray = NDArray[Any] | StoredArray


class ArrayRows:
    """Arrays, left in a file where they are large; the first axis of each counts the rows."""

    def __init__(
        self, arrays: Mapping[str, AnyArray], inputs: Sequence[InputSpec], where: object
    ) -> None:
        """Prepares it.

        Args:
            arrays: by name; the empty name where there is but one.
            inputs: the model's; an array that lacks their first axis is one sample.
            where: the file, for messages.
        """
        self._arrays = wanted_arrays(arrays, inputs)
        self.left_out = tuple(name for name in arrays if name not in self._arrays)
        self.surplus = 0
        self.groups: Indices | None = None
        counts = {name: len(a) if a.ndim else 0 for name, a in self._arrays.items()}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{n} of {name}" for name, n in counts.items())
            raise DataError(f"{where} holds {found}; give the same number of samples for each")
        self.count = next(iter(counts.values()), 0)

    def read(self, indices: Indices) -> Arrays:
        """See `Source`."""
        return {name: np.asarray(array[indices]) for name, array in self._arrays.items()}


_Kind = TypeVar("_Kind", NDArray[Any], AnyArray)


def wanted_arrays(arrays: Mapping[str, _Kind], inputs: Sequence[InputSpec]) -> dict[str, _Kind]:
    """The arrays that inputs are named after (all, where none is), single samples made batches."""
    specs: Mapping[str, InputSpec] = {spec.name: spec for spec in inputs}
    kept = {name: a for name, a in arrays.items() if name in specs} or dict(arrays)
    only = inputs[0] if len(inputs) == 1 else None
    return {name: as_rows(a, specs.get(name, only)) for name, a in kept.items()}


def as_rows(array: _Kind, spec: InputSpec | None) -> _Kind:
    """``array`` with a first axis for the samples, which a single sample lacks."""
    if spec is not None and spec.shape is not None and array.ndim == len(spec.shape) - 1:
        return array.as_single_row() if isinstance(array, StoredArray) else array[None]
    return array


def open_npy(path: Path, inputs: Sequence[InputSpec], options: SampleOptions) -> ArrayRows:
    """A single array, left in the file.

    Raises:
        DataError: where the file is damaged or holds Python objects.
    """
    try:
        array = _stored(SourceFile(path, DataError))
    except _DAMAGE as error:
        raise DataError(f"{path} is no readable .npy file ({error})") from None
    return ArrayRows({"": array}, inputs, path)


def _stored(file: SourceFile) -> AnyArray:
    """The array in a .npy file."""
    with file.path.open("rb") as opened:
        if opened.read(4) == b"PK\x03\x04":
            raise DataError(f"{file.path} is an archive; call it .npz")
        opened.seek(0)
        shape, in_columns, dtype = _header(opened)
        offset = opened.tell()
        if dtype.hasobject:
            raise ValueError("it holds Python objects, and loading those runs code from the file")
        if offset + prod(shape) * dtype.itemsize > file.size:
            raise ValueError("it ends too early")
        if in_columns or not shape:  # no row lies in one piece
            opened.seek(0)
            return np.asarray(np.lib.format.read_array(opened, allow_pickle=False))
    return StoredArray(file, offset, dtype, shape)


def _header(opened: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(opened)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(opened)
    # The headers of versions 2 and 3 differ in their encoding only, which is that of field names.
    return np.lib.format.read_array_header_2_0(opened)


def open_npz(path: Path, inputs: Sequence[InputSpec], options: SampleOptions) -> ArrayRows:
    """The arrays that the model wants; large ones are unpacked into a temporary file and mapped.

    Raises:
        DataError: where the file is damaged, holds Python objects, or unpacks to far more than it
            holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
            wanted = {spec.name for spec in inputs} & set(members) or set(members)
            if options.size_limit:
                _check_size(path, [members[name] for name in wanted])
            arrays = {name: _member(archive, members[name]) for name in sorted(wanted)}
    except _DAMAGE as error:
        raise DataError(f"{path} is no readable .npz file ({error})") from None
    rows = ArrayRows(arrays, inputs, path)
    rows.left_out = tuple(sorted(set(members) - wanted))
    return rows


def _check_size(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    way = "add --no-size-limit if that is as it should be"
    for info in members:
        check_ratio(path, info, DataError, way)
    check_room(sum(info.file_size for info in members), path)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as stream:
        if info.file_size < _IN_MEMORY:
            return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
        return _unpacked(stream)


def _unpacked(stream: IO[bytes]) -> NDArray[Any]:
    with tempfile.NamedTemporaryFile(dir=temporary_folder(), suffix=".npy", delete=False) as target:
        while piece := stream.read(1 << 22):
            target.write(piece)
    array: NDArray[Any] = np.load(target.name, mmap_mode="r", allow_pickle=False)
    return array
