"""Affine maps ``x -> scale * x + shift``, the one thing that bnfold moves about.

A BatchNorm in inference mode is one such map per channel (Ioffe & Szegedy, ICML 2015, Algorithm 2):
``scale = gamma / sqrt(variance + epsilon)`` and ``shift = beta - scale * mean``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AffineMap:
    """An affine map on a value of known rank.

    ``scale`` and ``shift`` are float64 arrays of the value's rank; an axis along which the map does
    not vary has size 1 in them. The per-channel map of an image batch has shape ``(1, C, 1, 1)``.
    """

    scale: Array
    shift: Array

    def __post_init__(self) -> None:
        if self.scale.ndim != self.shift.ndim:
            raise ValueError(f"ranks differ: {self.scale.shape} and {self.shift.shape}")

    @classmethod
    def per_channel(cls, scale: Array, shift: Array, axis: int, rank: int) -> AffineMap:
        """The map whose vectors ``scale`` and ``shift`` (shape ``(C,)``) lie along ``axis``."""
        shape = [1] * rank
        shape[axis] = -1
        return cls(scale.reshape(shape), shift.reshape(shape))

    @classmethod
    def identity(cls, rank: int) -> AffineMap:
        return cls(np.ones((1,) * rank), np.zeros((1,) * rank))

    @property
    def rank(self) -> int:
        return self.scale.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis: 1 where the map does not vary."""
        return np.broadcast_shapes(self.scale.shape, self.shift.shape)

    @property
    def varies_along(self) -> tuple[int, ...]:
        return tuple(axis for axis, size in enumerate(self.shape) if size != 1)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a value of ``shape`` has the size of the map along every axis where that varies."""
        own = self.shape
        return len(own) == len(shape) and all(a in (1, b) for a, b in zip(own, shape, strict=True))

    def agrees(self, shape: tuple[int, ...]) -> bool:
        """Whether the map and an array of ``shape`` broadcast against each other."""
        pairs = zip(reversed(self.shape), reversed(shape), strict=False)
        return all(1 in pair or pair[0] == pair[1] for pair in pairs)

    @property
    def is_identity(self) -> bool:
        return self.has_unit_scale and self.has_no_shift

    @property
    def has_unit_scale(self) -> bool:
        return bool(np.all(self.scale == 1))

    @property
    def has_no_shift(self) -> bool:
        return bool(np.all(self.shift == 0))

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())

    def then(self, after: AffineMap) -> AffineMap:
        """``after`` composed on this map: ``x -> after(self(x))``."""
        return AffineMap(after.scale * self.scale, after.scale * self.shift + after.shift)

    def without_shift(self) -> AffineMap:
        return AffineMap(self.scale, np.zeros((1,) * self.rank))

    def vectors(self, axis: int, size: int) -> tuple[Array, Array] | None:
        """``(scale, shift)`` of shape ``(size,)``, or None where the map varies along another axis."""
        if not -self.rank <= axis < self.rank:
            return None
        axis %= self.rank
        if any(other != axis for other in self.varies_along) or self.shape[axis] not in (1, size):
            return None
        return (
            np.broadcast_to(self.scale.reshape(-1), (size,)).copy(),
            np.broadcast_to(self.shift.reshape(-1), (size,)).copy(),
        )

    def with_axes(self, axes: tuple[int | None, ...]) -> AffineMap:
        """The same map on a value whose axis ``i`` is this one's axis ``axes[i]`` (None: a new one)."""
        old = self.shape
        shape = tuple(1 if axis is None else old[axis] for axis in axes)
        order = [axis for axis in axes if axis is not None]
        order += [axis for axis in range(self.rank) if axis not in order]

        def move(array: Array) -> Array:
            moved: Array = np.broadcast_to(array, old).transpose(order).reshape(shape)
            return moved

        return AffineMap(move(self.scale), move(self.shift))


def affine_of_statistics(
    mean: Array, variance: Array, scale: Array, shift: Array, epsilon: float
) -> tuple[Array, Array]:
    """``(s, t)`` with ``batch_norm(x) = s * x + t``, each of shape ``(C,)``, float64.

    Source: Ioffe & Szegedy, *Batch Normalization*, ICML 2015, Algorithm 2, step 11. Non-finite
    where the statistics make no finite map; the caller decides what to say of that.
    """
    with np.errstate(all="ignore"):
        s = scale / np.sqrt(variance + epsilon)
        return s, shift - s * mean
