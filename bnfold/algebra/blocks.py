"""Walking over a large array in blocks that stay in the processor's cache.

Tensors of gigabytes are read, scaled, cast and written so: never more than one block is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 16  # elements: 256 KB in float32

# Reads elements in row-major order, as many at a time as it is told. Each part holds only until
# the next one is asked for.
Parts = Callable[[Sequence[int]], Iterator[NDArray[Any]]]


@dataclass(frozen=True)
class Block:
    """A stretch of an array in row-major order, as an array of the same rank; without an index all of it."""

    shape: tuple[int, ...]
    index: tuple[slice, ...] = ()

    @property
    def size(self) -> int:
        return prod(self.shape)

    def of(self, factor: NDArray[Any]) -> NDArray[Any]:
        """What of ``factor`` meets this block, where both broadcast; a view."""
        if not self.index:
            return factor
        pairs = zip(self.index, factor.shape, strict=True)
        return factor[tuple(slice(None) if n == 1 else at for at, n in pairs)]


def blocks_of(shape: tuple[int, ...], limit: int = BLOCK) -> list[Block]:
    """The blocks of an array of ``shape``, in order, each of ``limit`` elements at most."""
    if prod(shape) <= limit:
        return [Block(shape)] if prod(shape) else []
    axis = next(i for i in range(len(shape)) if prod(shape[i + 1 :]) <= limit)
    step = max(1, limit // prod(shape[axis + 1 :]))
    behind = tuple(slice(0, n) for n in shape[axis + 1 :])
    found = []
    for leading in np.ndindex(*shape[:axis]):
        before = tuple(slice(i, i + 1) for i in leading)
        for start in range(0, shape[axis], step):
            index = (*before, slice(start, min(start + step, shape[axis])), *behind)
            found.append(Block(tuple(s.stop - s.start for s in index), index))
    return found


def parts_of(array: NDArray[Any]) -> Parts:
    """The parts of an array that is in memory."""

    def parts(counts: Sequence[int]) -> Iterator[NDArray[Any]]:
        flat, start = np.asarray(array).reshape(-1), 0
        for count in counts:
            yield flat[start : start + count]
            start += count

    return parts
