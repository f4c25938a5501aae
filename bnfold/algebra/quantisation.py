"""Quantised tensors, ``(integers - zero) * scale``, multiplied by factors without rounding them again.

The magnitude of a factor goes into the scale. Where the factor is negative, an integer is mirrored at
its zero point; where it is 0, the integer becomes the zero point. All in the number types of the file:
the only rounding is that of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import cast, float_info

Integers = NDArray[Any]


class Clash(Enum):
    """Why a quantised tensor cannot take some factors."""

    AXIS = auto()  # they differ along an axis along which the scale does not
    SCALE = auto()  # a scale does not survive in its type
    RANGE = auto()  # a mirrored integer lies outside of its type


class Misfit(Exception):
    """Raised where factors do not fit; ``where`` are the channels of a `Clash.RANGE`."""

    def __init__(self, clash: Clash, where: tuple[int, ...] = ()) -> None:
        super().__init__(clash.name)
        self.clash = clash
        self.where = where


@dataclass(frozen=True, eq=False)
class Grid:
    """The stored parts. ``scale`` and ``zero`` have shape ``()``, or vary along ``axis``.

    With a ``block`` they have the rank of the integers: one number for each block of so many along ``axis``.
    """

    integers: Integers
    scale: NDArray[Any]
    zero: Integers
    axis: int | None
    block: int | None = None

    @property
    def steps(self) -> NDArray[Any]:
        """How many scales each element is, in a type with room for sums and differences."""
        wide = {1: np.int16, 2: np.int32}.get(self.integers.dtype.itemsize, np.int64)
        steps = self.integers.astype(wide)
        steps -= self.along(self.zero.astype(wide))
        return steps

    def along(self, vector: NDArray[Any]) -> NDArray[Any]:
        """A scale or a zero point, shaped to broadcast against the integers."""
        if self.block is not None and self.axis is not None:
            size = self.integers.shape[self.axis]
            return np.repeat(vector, self.block, self.axis).take(np.arange(size), self.axis)
        return _along(vector, self.axis, self.integers.ndim)


def multiplied(grid: Grid, factors: Array, own_axis: int | None) -> Grid:
    """``grid`` times ``factors``.

    Args:
        grid: the tensor.
        factors: of the rank of the integers, size 1 along axes on which they do not vary.
        own_axis: where one scale for all may become one for each channel, None where it may not.

    Raises:
        Misfit: where no such grid exists.
    """
    if grid.block is not None and grid.axis is not None:
        return _multiplied_in_blocks(grid, factors, grid.axis, grid.block, own_axis)
    axis = grid.axis
    if axis is None and not _is_uniform(np.abs(factors)):
        axis = own_axis
    magnitude = _magnitude(factors, axis)
    scale = _scaled(grid, magnitude)
    steps = grid.steps
    living = _along(scale, axis, factors.ndim) > 0
    steps *= np.where(living, np.sign(factors), 0.0).astype(steps.dtype)
    scale = np.where(scale > 0, scale, grid.scale).astype(grid.scale.dtype)
    zero, axis = _zero_points(grid, steps, axis, own_axis)
    if axis is not None:
        size = (grid.integers.shape[axis],)
        scale, zero = np.broadcast_to(scale, size), np.broadcast_to(zero, size)
    steps += _along(zero.astype(steps.dtype), axis, steps.ndim)
    return Grid(steps.astype(grid.integers.dtype), scale, zero, axis)


def _multiplied_in_blocks(
    grid: Grid, factors: Array, axis: int, block: int, own_axis: int | None
) -> Grid:
    """The same where each block has a scale of its own, in which all factors are of one magnitude."""
    magnitude = np.abs(factors)
    if magnitude.shape[axis] > 1:
        starts = np.arange(0, magnitude.shape[axis], block)
        most = np.maximum.reduceat(magnitude, starts, axis)
        if not ((magnitude == grid.along(most)) | (magnitude == 0)).all():
            raise Misfit(Clash.AXIS)
        magnitude = most
    scale = _scaled(grid, magnitude)
    steps = grid.steps
    steps *= np.where(grid.along(scale) > 0, np.sign(factors), 0.0).astype(steps.dtype)
    scale = np.where(scale > 0, scale, grid.scale).astype(grid.scale.dtype)
    low, high = limits(grid.integers.dtype)
    stored = steps + grid.along(grid.zero.astype(steps.dtype))
    wrong = (stored < low) | (stored > high)
    if wrong.any():
        raise Misfit(Clash.RANGE, _channels_of(wrong, own_axis))
    return Grid(stored.astype(grid.integers.dtype), scale, grid.zero, axis, block)


def _channels_of(wrong: NDArray[np.bool_], axis: int | None) -> tuple[int, ...]:
    if axis is None:
        return ()
    others = tuple(i for i in range(wrong.ndim) if i != axis)
    return tuple(np.flatnonzero(wrong.any(axis=others)).tolist())


def limits(dtype: DTypeLike) -> tuple[int, int]:
    """The least and the largest integer of a type, those of four bits included."""
    iinfo: Any = ml_dtypes.iinfo
    info = iinfo(dtype)
    return int(info.min), int(info.max)


def latent(grid: Grid, floats: NDArray[Any], factors: Array) -> NDArray[Any]:
    """Floats that are rounded to ``grid`` when the model runs: ``floats * factors``, moved onto the
    grid wherever their rounding would give, or might give, another integer.

    Args:
        grid: what `multiplied` gave.
        floats: those that were rounded to the grid before.
        factors: as there.
    """
    scale, zero = grid.along(grid.scale.astype(np.float64)), grid.along(grid.zero.astype(np.int64))
    wanted = grid.steps
    exact = wanted * scale
    moved = cast(floats.astype(np.float64) * factors, floats.dtype)
    ratio = moved.astype(np.float64) / scale
    low, high = limits(grid.integers.dtype)
    beyond = np.clip(np.rint(ratio), low - zero, high - zero) != np.rint(ratio)
    near_tie = ~beyond & (np.abs(ratio - wanted) > _NEAR_TIE)
    reached = np.clip(np.rint(ratio), low - zero, high - zero) == wanted
    return np.where(reached & ~near_tie, moved, cast(exact, floats.dtype)).astype(floats.dtype)


_NEAR_TIE = 0.499


def _along(vector: NDArray[Any], axis: int | None, rank: int) -> NDArray[Any]:
    if vector.ndim == 0 or axis is None:
        return vector.reshape(())
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)


def _is_uniform(magnitude: Array) -> bool:
    living = magnitude[magnitude > 0]
    return bool((living == living[:1]).all())


def _magnitude(factors: Array, axis: int | None) -> Array:
    """The one magnitude, or that of each channel along ``axis``; 0 where all factors are.

    Raises:
        Misfit: where magnitudes differ otherwise.
    """
    magnitude = np.abs(factors)
    others = tuple(i for i in range(factors.ndim) if i != axis)
    found = magnitude.max(axis=others, keepdims=True)
    if not ((magnitude == found) | (magnitude == 0)).all():
        raise Misfit(Clash.AXIS)
    return np.asarray(found.reshape(()) if axis is None else found.reshape(-1))


def _scaled(grid: Grid, magnitude: Array) -> NDArray[Any]:
    """The new scale; 0 for a channel that is dead, or too small to count beside the others.

    Raises:
        Misfit: where the scale's number type holds one with fewer digits than it has, or not at all.
    """
    new = grid.scale.astype(np.float64) * magnitude
    info = float_info(grid.scale.dtype)
    small = (new > 0) & (new < float(info.tiny))
    counts = new > float(info.eps) ** 2 * new.max(initial=0)
    if (small & counts).any() or (new > float(info.max)).any():
        raise Misfit(Clash.SCALE)
    return np.asarray(cast(np.where(small, 0.0, new), grid.scale.dtype))


def _zero_points(
    grid: Grid, steps: NDArray[Any], axis: int | None, own_axis: int | None
) -> tuple[Integers, int | None]:
    """Zero points with which all integers stay in their type: the old ones, or mirrored ones.

    A symmetric tensor stays one: many runtimes take nothing else for signed integers.

    Raises:
        Misfit: where some do not.
    """
    low, high = limits(grid.integers.dtype)
    old = grid.zero.astype(np.int64)

    def outside(zero: NDArray[np.int64], along: int | None) -> NDArray[np.bool_]:
        others = tuple(i for i in range(steps.ndim) if i != along) or None
        least, most = (f(axis=others, keepdims=True, initial=0) for f in (steps.min, steps.max))
        shaped = _along(zero, along, steps.ndim)
        wrong = (least + shaped < low) | (most + shaped > high)
        return np.asarray(wrong.any() if along is None else wrong.reshape(-1))

    if not (bad := outside(old, axis)).any():
        return grid.zero, axis
    if axis is None and own_axis is not None:
        axis, bad = own_axis, outside(old, own_axis)
    if low < 0 and not old.any():
        raise Misfit(Clash.RANGE, tuple(np.flatnonzero(bad).tolist()))
    zero = np.where(bad, low + high - old, old)
    if (still := outside(zero, axis)).any():
        raise Misfit(Clash.RANGE, tuple(np.flatnonzero(still).tolist()))
    return zero.astype(grid.zero.dtype), axis
