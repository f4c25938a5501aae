"""Count, mean and squared deviations per channel: the one place where statistics are accumulated.

Never E[x²] - E[x]² of the values themselves: in float32, at mean 1000 and deviation 0.01, that
difference is negative. Each row here is first moved by one of its elements, or the mean of four, the pivot.

Rows of float32 (and smaller types) are summed in float32, 1,024 elements at a time, and these sums in
float64. That is right to 3e-7 of the sum of squares around the pivot. Where this is more than 8 times
that around the mean (a poor pivot), or too small or too large for float32, the row is done again in
float64. So a variance is right to 1e-5, a mean to 1e-6 standard deviations. In float64, as
``(pivot - mean)² <= K * variance`` for a row of K elements, cancellation costs at most a factor of K
in a relative error of 2**-53.

Merging: Chan, Golub & LeVeque, *Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances*, Stanford STAN-CS-79-773, 1979.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import is_float

# Elements worked on at once, which stay within a processor's last cache. With fewer, the calls
# themselves take as long as the sums.
_BLOCK = 1 << 20
_WORTH_THREADS = 4
# Rows of fewer elements gain nothing in float32.
_SHORT, _STRETCH = 128, 1024
POOR_PIVOT = 8.0  # squares around it, over those around the mean
SMALL_SQUARE = 1e-30  # of a float32: below it, squares lose digits to underflow


@dataclass(frozen=True, eq=False)
class Moments:
    """What is known of a population of values, channel by channel.

    ``count`` is the number of values in each channel; ``mean`` and ``m2`` (the sum of squared
    deviations from the mean) have shape ``(C,)``, float64.
    """

    count: int
    mean: Array
    m2: Array

    @classmethod
    def empty(cls, channels: int) -> Moments:
        return cls(0, np.zeros(channels), np.zeros(channels))

    @classmethod
    def of(cls, values: NDArray[Any], axis: int = 1) -> Moments:
        """The moments of an array of any float type.

        Args:
            values: any rank >= 1; the axes other than ``axis`` hold the population.
            axis: where the channels lie.
        """
        return sample_moments(values, axis).pooled()

    def merge(self, other: Moments) -> Moments:
        """The moments of both populations together (Chan's formula)."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        share = other.count / count
        with np.errstate(invalid="ignore", over="ignore"):  # as in `_line_moments`
            delta = other.mean - self.mean
            m2 = self.m2 + other.m2 + delta * delta * (self.count * share)
            return Moments(count, self.mean + delta * share, m2)

    @classmethod
    def merged(cls, several: Iterable[Moments], channels: int) -> Moments:
        """All of them together, in their order: the same order gives the same bits."""
        result = cls.empty(channels)
        for moments in several:
            result = result.merge(moments)
        return result

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.mean).all() and np.isfinite(self.m2).all())

    def variance(self, *, unbiased: bool = False) -> Array:
        """``m2 / count``, or ``m2 / (count - 1)``; shape ``(C,)``.

        Raises:
            ValueError: where there are too few values for it.
        """
        degrees = self.count - int(unbiased)
        if degrees < 1:
            raise ValueError(f"{self.count} values have no such variance")
        return self.m2 / degrees


@dataclass(frozen=True, eq=False)
class SampleMoments:
    """The moments of each sample of a batch by itself: ``mean`` and ``m2`` have shape ``(N, C)``.

    ``counts`` are the numbers of values that the samples hold in each channel, shape ``(N,)``.
    """

    counts: NDArray[np.int64]
    mean: Array
    m2: Array

    def __getitem__(self, rows: slice) -> SampleMoments:
        return SampleMoments(self.counts[rows], self.mean[rows], self.m2[rows])

    def pooled(self) -> Moments:
        """All samples as one population (Chan's formula)."""
        channels = self.mean.shape[1]
        total = int(self.counts.sum())
        if not total:
            return Moments.empty(channels)
        counts = self.counts[:, None]
        pivot = self.mean[int(np.argmax(self.counts > 0))]
        equal = bool((self.counts == self.counts[0]).all())
        with np.errstate(invalid="ignore", over="ignore"):  # as in `_line_moments`
            moved = np.where(counts > 0, self.mean - pivot, 0.0)
            mean = moved.mean(axis=0) if equal else (moved * counts).sum(axis=0) / total
            between = ((moved - mean) ** 2 * counts).sum(axis=0)
        return Moments(total, pivot + mean, self.m2.sum(axis=0) + between)


def sample_moments(values: NDArray[Any], axis: int = 1) -> SampleMoments:
    """The moments of each sample (first axis) of ``values``, channels along ``axis``.

    Where the channels lie along the first axis, every position of the second is a sample.
    """
    if values.ndim == 1:
        values, axis = values[None], 1
    moved = np.moveaxis(values, axis % values.ndim, 1)
    rows, channels = moved.shape[:2]
    size = math.prod(moved.shape[2:])
    lines = moved.reshape(rows, channels, size)
    counts = np.full(rows, size, np.int64)
    if size == 1:
        return SampleMoments(counts, lines[:, :, 0].astype(np.float64), np.zeros((rows, channels)))
    mean, m2 = np.empty((rows, channels)), np.empty((rows, channels))
    step = max(1, _BLOCK // max(1, channels * size))
    blocks = [slice(start, start + step) for start in range(0, rows, step)]

    wide = max(1, _BLOCK // size)

    def reduce(block: slice) -> None:
        for start in range(0, channels, wide):
            part = block, slice(start, start + wide)
            mean[part], m2[part] = _line_moments(lines[part])

    # Each sample's result is its own, so that threads change nothing but the time.
    for _ in _pool().map(reduce, blocks) if len(blocks) >= _WORTH_THREADS else map(reduce, blocks):
        pass
    return SampleMoments(counts, mean, m2)


def counted_moments(values: NDArray[Any], axis: int, counted: NDArray[np.bool_]) -> SampleMoments:
    """`sample_moments` of those values alone that count.

    Args:
        values: the samples along the first axis, channels along ``axis``, which is another.
        axis: where the channels lie.
        counted: shape ``(N, values of a channel)``, in the order of the axes that are left.
    """
    moved = np.moveaxis(values, axis % values.ndim, 1)
    rows, channels = moved.shape[:2]
    lines = moved.reshape(rows, channels, -1)
    mean, m2 = np.zeros((rows, channels)), np.zeros((rows, channels))
    for row in np.flatnonzero(counted.any(axis=1)):
        found = _line_moments(lines[row : row + 1][:, :, counted[row]])
        mean[row], m2[row] = found[0][0], found[1][0]
    return SampleMoments(counted.sum(axis=1).astype(np.int64), mean, m2)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), "moments")


def _line_moments(lines: NDArray[Any]) -> tuple[Array, Array]:
    """Mean and squared deviations along the last axis, each of shape ``(N, C)``."""
    size = lines.shape[2]
    if not size:
        return np.zeros(lines.shape[:2]), np.zeros(lines.shape[:2])
    if size < _SHORT or not is_float(lines.dtype) or lines.dtype.itemsize > 4:
        return precise_moments(lines)
    # Infinities are reported by whoever looks at the result, with the name of the layer.
    with np.errstate(invalid="ignore", over="ignore"):
        pivot = lines[:, :, size // 8 :: size // 4][:, :, :4].astype(np.float32).sum(axis=2) / 4
        moved = np.subtract(lines, pivot[:, :, None], dtype=np.float32)
        total, squares = _sums(moved)
        m2 = squares - total * total / size
        fine = (squares <= POOR_PIVOT * m2) & (squares >= SMALL_SQUARE * size)
        fine &= np.isfinite(squares)
    mean = pivot + total / size
    if not fine.all():
        again = precise_moments(lines[~fine][None])
        mean[~fine], m2[~fine] = again[0][0], again[1][0]
    return mean, m2


def _sums(moved: NDArray[np.float32]) -> tuple[Array, Array]:
    """Sums and sums of squares along the last axis.

    One scalar product for each row, so that its result does not depend on the rows beside it.
    """
    total, squares = np.zeros(moved.shape[:2]), np.zeros(moved.shape[:2])
    ones = np.ones((_STRETCH, 1), np.float32)
    for start in range(0, moved.shape[2], _STRETCH):
        part = moved[:, :, None, start : start + _STRETCH]
        total += np.matmul(part, ones[: part.shape[3]])[:, :, 0, 0]
        squares += np.matmul(part, np.swapaxes(part, 2, 3))[:, :, 0, 0]
    return total, squares


def precise_moments(lines: NDArray[Any]) -> tuple[Array, Array]:
    """Mean and squared deviations along the last axis of ``(N, C, size)``, in float64 throughout."""
    size = lines.shape[2]
    pivot = lines[:, :, :1].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        moved = np.subtract(lines, pivot, dtype=np.float64)
        total = moved.sum(axis=2)
        squares = np.einsum("nck,nck->nc", moved, moved)
        mean = total / size
        # A constant line may come out below zero by rounding.
        return pivot[:, :, 0] + mean, np.maximum(squares - total * mean, 0.0)
