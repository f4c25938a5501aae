"""Arrays that lie in a file: rows are read when they are asked for, nothing is mapped.

See `bnfold.files.source` for why.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.files import SourceFile


class StoredArray:
    """An array in C order somewhere in a file, as far as `ArrayRows` needs one."""

    def __init__(
        self, file: SourceFile, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> None:
        self._file, self._offset = file, offset
        self.dtype, self.shape, self.ndim = dtype, shape, len(shape)
        self._row = prod(shape[1:]) * dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def as_single_row(self) -> StoredArray:
        """The whole as the only row of an array with one axis more."""
        return StoredArray(self._file, self._offset, self.dtype, (1, *self.shape))

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        if found.nbytes:
            flat = found.reshape(len(rows), -1).view(np.uint8)
            for place, row in enumerate(rows.tolist()):
                self._file.read_into(self._offset + row * self._row, flat[place].data)
        return found
