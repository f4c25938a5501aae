"""Absorbing affine maps into the weight of a linear operator, whatever its layout.

For ``y = W x + b``: a map on the output, ``s * y + t``, gives ``W' = s W`` and ``b' = s b + t``;
a map on the input, ``W (s x + t) + b``, gives ``W' = W s`` and ``b' = b + W t``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.algebra.blocks import Block, Parts, blocks_of


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

    def scaled_blocks(
        self, weight: Parts, out_scale: Array | None, in_scale: Array | None
    ) -> Iterator[Array]:
        """`scaled` in blocks, in row-major order; each holds only until the next is asked for."""
        for _, block in self._scaled_blocks(weight, out_scale, in_scale):
            yield block.reshape(-1)

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

    def _scaled_blocks(
        self, weight: Parts, out_scale: Array | None, in_scale: Array | None
    ) -> Iterator[tuple[Block, Array]]:
        factors = [
            self._along(scale, axes)
            for scale, axes in ((out_scale, self.out_axes), (in_scale, self.in_axes))
            if scale is not None
        ]
        first, *others = factors or [np.ones((1,) * len(self.split))]
        blocks = blocks_of(self.split)
        room = np.empty(max((block.size for block in blocks), default=0))
        for block, part in self._blocks(weight, blocks):
            result = room[: block.size].reshape(block.shape)
            np.multiply(part, block.of(first), out=result, dtype=np.float64)
            for factor in others:
                result *= block.of(factor)
            yield block, result

    def _blocks(
        self, weight: Parts, blocks: list[Block] | None = None
    ) -> Iterator[tuple[Block, NDArray[Any]]]:
        """The elements of ``weight``, block by block of ``split``."""
        blocks = blocks_of(self.split) if blocks is None else blocks
        parts = weight([block.size for block in blocks])
        for block, part in zip(blocks, parts, strict=True):
            yield block, part.reshape(block.shape)

    def contract(self, weight: Parts, in_shift: Array) -> Array:
        """What a constant ``in_shift`` (shape ``(inputs,)``) adds to each output, shape ``(outputs,)``."""
        result = self._for_each_output()
        for block, product in self._scaled_blocks(weight, None, in_shift):
            result_here = block.of(result)
            result_here += product.sum(axis=self._rest, keepdims=True)
        return result.reshape(-1)

    def channel_peaks(
        self, weight: Parts, out_scale: Array | None = None, in_scale: Array | None = None
    ) -> Array:
        """The largest magnitude in the weights of each output channel, shape ``(outputs,)``.

        Of the weights as they are, or `scaled`.
        """
        plain = out_scale is None and in_scale is None
        result, rest = self._for_each_output(), self._rest
        blocks = self._blocks(weight) if plain else self._scaled_blocks(weight, out_scale, in_scale)
        for block, part in blocks:
            # The types of ml_dtypes warn of NaN, which stays one and is refused later.
            plain_type = part.astype(np.float32) if part.dtype.kind == "V" else part
            here = block.of(result)
            np.maximum(here, np.abs(plain_type).max(axis=rest, keepdims=True), out=here)
        return result.reshape(-1)

    @property
    def _rest(self) -> tuple[int, ...]:
        """The axes of ``split`` that are no output channels."""
        return tuple(axis for axis in range(len(self.split)) if axis not in self.out_axes)

    def _for_each_output(self) -> Array:
        return np.zeros([n if i in self.out_axes else 1 for i, n in enumerate(self.split)])
