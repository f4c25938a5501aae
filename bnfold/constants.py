"""Tensors that are known when a file is read: their elements, and how a file may store them quantised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.algebra.blocks import Parts, parts_of
from bnfold.algebra.rounding import cast

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Obstacle:
    """A fact of the graph that forbids changing something; ``code`` names a `planning.Reason`."""

    code: str
    culprit: str | None = None


@dataclass(eq=False)
class Constant:
    """A tensor known when the file is read; ``load`` brings its elements when they are needed.

    ``read_parts`` brings them part by part, where the format can.
    """

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]
    obstacle: Obstacle | None = None
    quantised: Quantised | None = None
    read_parts: Parts | None = field(default=None, repr=False)

    def parts(self, counts: Sequence[int]) -> Iterator[NDArray[Any]]:
        """The elements in row-major order, so many at a time; each part until the next is asked for."""
        return (self.read_parts or parts_of(self.load()))(counts)

    def float64(self) -> Array:
        return np.asarray(self.load()).astype(np.float64)

    def fitted(self, array: Array) -> NDArray[Any]:
        """New elements in the type and, where that is possible, of the rank of this constant."""
        while array.ndim > len(self.shape) and array.shape[0] == 1:
            array = array[0]
        return cast(array, self.dtype)


@dataclass(frozen=True, eq=False)
class Quantised:
    """How a file stores a constant that it dequantises: ``(integers - zero) * scale``.

    ``scale`` and ``zero`` hold one number, or vary along ``axis`` of the integers, whose axes ``order``
    puts into the order of the constant's; with a ``block`` they have the rank of the integers, and one
    number for each block of so many along ``axis``. ``splits``: one scale may become one for each channel.
    ``latent``: the floats that the file rounds to the integers (fake quantisation). ``input_scale``, of a
    bias: the scale of what flows into its layer, where ``scale`` is that times the weight's.
    """

    integers: Constant
    scale: Constant
    zero: Constant | None
    axis: int | None
    order: tuple[int, ...]
    splits: bool
    latent: Constant | None = None
    input_scale: float | None = None
    native: Any = None
    block: int | None = None
