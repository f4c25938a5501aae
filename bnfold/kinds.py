"""The eleven kinds of operator that the planner knows, as data.

A format's reader puts each native operator into one of them; whatever it does not know is `Opaque` and
stops every fold. What a kind allows stands in `planning`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bnfold.algebra.affine import AffineMap, Array, affine_of_statistics
from bnfold.algebra.weights import WeightLayout
from bnfold.constants import Constant, Obstacle, Shape


@dataclass(frozen=True, eq=False)
class Norm:
    """BatchNorm in inference form: per channel ``scale * (x - mean) / sqrt(variance + epsilon) + shift``.

    The arrays have shape ``(channels,)``, float64; NaN where the file computes them. ``epsilon`` and
    ``momentum`` are None where the file does not tell them. ``momentum`` is the weight of the new
    batch, ``new = (1 - momentum) * old + momentum * batch``, as PyTorch counts it; ONNX gives the
    weight of the old value, and its reader turns that round. ``lowers`` tells, when asked, whether it is
    one operator, on values of the type of its parameters, for which other operators could stand.
    """

    channels: int
    epsilon: float | None
    momentum: float | None
    mean: Array
    variance: Array
    scale: Array
    shift: Array
    dtype: np.dtype[Any]
    axis: int = 1
    obstacle: Obstacle | None = None
    lowers: Callable[[], bool] = lambda: True

    def vectors(self) -> tuple[Array, Array]:
        """``(s, t)`` with ``norm(x) = s * x + t`` along ``axis``."""
        return self._vectors

    @cached_property
    def _vectors(self) -> tuple[Array, Array]:
        assert self.epsilon is not None
        return affine_of_statistics(self.mean, self.variance, self.scale, self.shift, self.epsilon)

    @cached_property
    def is_sound(self) -> bool:
        """Whether it is a finite constant map, as far as its own numbers tell."""
        arrays = self.mean, self.variance, self.scale, self.shift
        if self.epsilon is None or not all(np.isfinite(a).all() for a in arrays):
            return False
        return bool((self.variance >= 0).all() and (self.variance + self.epsilon > 0).all())


@dataclass(frozen=True, eq=False)
class Affine:
    """An element-wise operation with one constant operand.

    ``form`` is one of ``x*c``, ``x/c``, ``x+c``, ``x-c``, ``c-x``, ``-x``; ``constant`` broadcasts
    against the value from the right, as NumPy does. ``part_of`` names the frozen BatchNorm that it is a
    part of, where the file tells.
    """

    form: str
    constant: Constant | None
    computed_statistics: bool = False
    part_of: str | None = None

    def map(self, rank: int) -> AffineMap | None:
        """The node as a map on a value of ``rank``; None where the constant has a higher rank."""
        one, zero = np.ones((1,) * rank), np.zeros((1,) * rank)
        if self.constant is None:
            return AffineMap(-one, zero)
        if len(self.constant.shape) > rank:
            return None
        c = self.constant.float64()
        c = c.reshape((1,) * (rank - c.ndim) + c.shape)
        with np.errstate(all="ignore"):
            return {
                "x*c": lambda: AffineMap(c, zero),
                "x/c": lambda: AffineMap(1.0 / c, zero),
                "x+c": lambda: AffineMap(one, c),
                "x-c": lambda: AffineMap(one, -c),
                "c-x": lambda: AffineMap(-one, c),
            }[self.form]()


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear operator with a constant weight: convolution, transposed convolution, matrix product.

    ``bias`` broadcasts so that its axis ``bias_axis``, mostly the last, is the output channel (a
    convolution's has no other). ``weight_factor`` and ``bias_factor`` are the
    multipliers that the operator itself applies (Gemm's alpha and beta).
    ``every_tap_everywhere`` says that each output element sees the whole kernel: only then may a
    shift of the input be absorbed. ``activation`` is what a fused operator applies to its result. A
    second and third input (offsets, masks) say where and how much it reads.
    """

    layout: WeightLayout
    weight: Constant
    bias: Constant | None
    out_axis: int
    in_axis: int
    rank: int | None
    every_tap_everywhere: bool
    weight_factor: float = 1.0
    bias_factor: float = 1.0
    bias_axis: int = -1
    geometry: Geometry | None = None
    obstacle: Obstacle | None = None
    activation: Homogeneous | Opaque | None = None


@dataclass(frozen=True)
class Geometry:
    """How a convolution slides over its input; None in `Linear` where that depends on sizes."""

    groups: int
    strides: Shape
    dilations: Shape
    pads_begin: Shape
    pads_end: Shape
    transposed: bool = False


@dataclass(frozen=True)
class Movement:
    """Moves elements about without changing them. ``touched``: the axes it works on, None for all.

    An axis that is not touched is the same axis, of the same size, of every input and output.
    ``fill`` is a constant that the operator may write at some sizes of dynamic axes (NaN: unknown).
    ``cast`` are the number types before and behind an operator that changes them.

    What is known of an operator that touches all axes lets it be tried on few elements:
    ``row_major`` says that elements keep their order (a reshape), ``axes`` that whole axes change
    places, as in `Average` (a transposition).
    """

    touched: tuple[int, ...] | None = None
    fill: float | None = None
    cast: tuple[np.dtype[Any], np.dtype[Any]] | None = None
    row_major: bool = False
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Average:
    """Replaces elements by weighted sums over some axes.

    ``axes[i]`` is the input axis that output axis ``i`` carries unchanged, None where it is reduced.
    ``period``: how many consecutive sizes of an axis show everything that happens at its border.
    """

    axes: tuple[int | None, ...]
    period: int = 4


@dataclass(frozen=True)
class Monotone:
    """Takes maxima over some axes; ``axes`` as in `Average`."""

    axes: tuple[int | None, ...]


@dataclass(frozen=True)
class Homogeneous:
    """``f(s * x) = s * f(x)`` for every ``s > 0``: rectifiers, magnitudes, norms over some axes.

    ``axes`` as in `Average`; None where it works element by element. ``rectifies``: it is ``max(x, 0)``.
    """

    axes: tuple[int | None, ...] | None = None
    rectifies: bool = False


@dataclass(frozen=True)
class Mixture:
    """Each element is a weighted sum of elements of the first input along one axis: attention, messages.

    The other inputs (weights, indices) are computed too and say which. ``axis`` counts from the end; the
    other axes are those of the first input, broadcast from the right. ``sums_to_one``: so do the weights of
    every element, as behind a softmax, or where elements are picked.
    """

    axis: int
    sums_to_one: bool


@dataclass(frozen=True)
class Product:
    """Multiplies two computed values, or (``divides``) divides the first by the second."""

    divides: bool = False


@dataclass(frozen=True)
class Sum:
    """Adds its inputs, each times its weight: a sum, a difference, a mean of several values."""

    weights: tuple[float, ...]

    @property
    def is_plain(self) -> bool:
        """Whether it only adds and subtracts."""
        return all(abs(weight) == 1 for weight in self.weights)


@dataclass(frozen=True)
class Opaque:
    """Anything else. ``nonlinear`` marks the well-known activations, for a better sentence."""

    nonlinear: bool = False
    obstacle: Obstacle | None = None

    @property
    def rounds(self) -> bool:
        """Whether it quantises or dequantises values."""
        return self.obstacle is not None and self.obstacle.code == "QUANTIZED_VALUE"


Kind = (
    Norm
    | Affine
    | Linear
    | Movement
    | Average
    | Mixture
    | Monotone
    | Homogeneous
    | Product
    | Sum
    | Opaque
)
