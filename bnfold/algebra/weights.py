"""Absorbing affine maps into the weight of a linear operator, whatever its layout.

For ``y = W x + b``: a map on the output, ``s * y + t``, gives ``W' = s W`` and ``b' = s b + t``;
a map on the input, ``W (s x + t) + b``, gives ``W' = W s`` and ``b' = b + W t``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array


@dataclass(frozen=True)
class WeightLayout:
    """Where the output and input channels of a weight lie.

    ``split`` is a shape of the same elements in which groups, outputs and inputs are axes of their
    own; the output channel (input channel) is the row-major index over ``out_axes`` (``in_axes``).
    """

    shape: tuple[int, ...]
    split: tuple[int, ...]
    out_axes: tuple[int, ...]
    in_axes: tuple[int, ...]

    @classmethod
    def conv(cls, shape: tuple[int, ...], groups: int) -> WeightLayout:
        """A convolution's weight ``(O, I/groups, *kernel)``."""
        split = (groups, shape[0] // groups, *shape[1:])
        return cls(shape, split, out_axes=(0, 1), in_axes=(0, 2))

    @classmethod
    def conv_transpose(cls, shape: tuple[int, ...], groups: int) -> WeightLayout:
        """A transposed convolution's weight ``(I, O/groups, *kernel)``."""
        split = (groups, shape[0] // groups, *shape[1:])
        return cls(shape, split, out_axes=(0, 2), in_axes=(0, 1))

    @classmethod
    def matrix(cls, shape: tuple[int, ...], out_axis: int, in_axis: int) -> WeightLayout:
        """A matrix, or a stack of matrices, whose channel axes are given."""
        rank = len(shape)
        return cls(shape, shape, out_axes=(out_axis % rank,), in_axes=(in_axis % rank,))

    @property
    def outputs(self) -> int:
        return prod(self.split[axis] for axis in self.out_axes)

    @property
    def inputs(self) -> int:
        return prod(self.split[axis] for axis in self.in_axes)

    @property
    def is_stack(self) -> bool:
        """Whether the weight differs between entries of the batch (a stack of matrices)."""
        return len(self.out_axes) == 1 and len(self.split) > 2

    def _along(self, vector: Array, axes: tuple[int, ...]) -> Array:
        return vector.reshape([n if i in axes else 1 for i, n in enumerate(self.split)])

    def scaled(
        self, weight: NDArray[Any], out_scale: Array | None, in_scale: Array | None
    ) -> Array:
        """``weight`` (shape ``shape``) with its channels multiplied, in float64."""
        result: Array = weight.reshape(self.split).astype(np.float64)
        if out_scale is not None:
            result *= self._along(out_scale, self.out_axes)
        if in_scale is not None:
            result *= self._along(in_scale, self.in_axes)
        return result.reshape(self.shape)

    def factors(self, out_scale: Array | None, in_scale: Array | None) -> Array:
        """What `scaled` multiplies by: of the weight's rank, of size 1 where it does not vary."""
        result: Array = np.ones((1,) * len(self.split))
        if out_scale is not None:
            result = result * self._along(out_scale, self.out_axes)
        if in_scale is not None:
            result = result * self._along(in_scale, self.in_axes)
        joined = len(self.split) - len(self.shape) + 1  # axes that are one in the weight itself
        full = np.broadcast_to(result, self.split[:joined] + result.shape[joined:])
        return full.reshape((self.shape[0], *result.shape[joined:]))

    def contract(self, weight: NDArray[Any], in_shift: Array) -> Array:
        """What a constant ``in_shift`` (shape ``(inputs,)``) adds to each output, shape ``(outputs,)``."""
        product = weight.reshape(self.split).astype(np.float64) * self._along(
            in_shift, self.in_axes
        )
        rest = tuple(axis for axis in range(len(self.split)) if axis not in self.out_axes)
        return np.asarray(product.sum(axis=rest)).reshape(-1)

    def channel_peaks(self, weight: NDArray[Any]) -> Array:
        """The largest magnitude in the weights of each output channel, shape ``(outputs,)``."""
        rest = tuple(axis for axis in range(len(self.split)) if axis not in self.out_axes)
        magnitude = np.abs(weight.reshape(self.split))
        return np.asarray(magnitude.max(axis=rest, initial=0), dtype=np.float64).reshape(-1)
