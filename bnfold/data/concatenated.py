"""Several sources, one behind the other: a folder of files, say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data.source import Arrays, Indices, Source
from bnfold.errors import DataError


class Concatenated:
    """Opens nothing more than the parts did; a row is read from the part that holds it."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self._parts = parts
        self._ends = np.cumsum([part.count for part in parts])
        self.count = int(self._ends[-1])
        self.left_out = tuple(dict.fromkeys(name for part in parts for name in part.left_out))
        self.surplus = max(part.surplus for part in parts)
        self.groups: Indices | None = None

    def read(self, indices: Indices) -> Arrays:
        """See `Source`."""
        which = np.searchsorted(self._ends, indices, side="right")
        pieces: list[tuple[NDArray[np.int64], Arrays]] = []
        for number in np.unique(which):
            places = np.flatnonzero(which == number)
            part = self._parts[int(number)]
            rows = indices[places] - (self._ends[number] - part.count)
            pieces.append((places, part.read(rows)))
        names = set.intersection(*(set(arrays) for _, arrays in pieces))
        order = np.argsort(np.concatenate([places for places, _ in pieces]))
        return {name: _joined([a[name] for _, a in pieces])[order] for name in names}


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    try:
        return np.concatenate(arrays)
    except ValueError:
        shapes = sorted({str(list(a.shape[1:])) for a in arrays})
        raise DataError(
            f"the files hold samples of different shapes ({' and '.join(shapes[:3])}), which no "
            "batch can hold; use --batch-size 1, or bring them to one size"
        ) from None
