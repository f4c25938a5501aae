"""The laws that bind the gauges of a network: equations over *cells*, one channel of one value each.

A cell has two unknowns: its scale σ (never 0) and its shift δ, with ``true = σ * stored + δ``. Cell 0
is the one whose gauge is the identity: graph inputs and outputs, and whatever an unknown operator
reads or writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.graph import Node

Cells = NDArray[np.int64]
Places = NDArray[np.int64]
IDENTITY = 0


@dataclass(frozen=True, eq=False)
class ScaleLaw:
    """``σ[a] = ratio * σ[b]`` for ``cells = (a, b)``; ``σ[a] = ratio`` for ``cells = (a,)``.

    ``places`` tells which element of what the law was made from each of its elements is.
    """

    cells: tuple[Cells, ...]
    ratio: Array
    node: Node
    places: Places

    @property
    def vectors(self) -> tuple[Array, ...]:
        return (self.ratio,)


@dataclass(frozen=True, eq=False)
class SignLaw:
    """``σ > 0``."""

    cells: tuple[Cells]
    node: Node

    @property
    def vectors(self) -> tuple[Array, ...]:
        return ()


@dataclass(frozen=True, eq=False)
class ShiftLaw:
    """``sum(factor * δ[cells]) = offset``; ``size`` tells how large the numbers were that make the offset."""

    cells: tuple[Cells, ...]
    factors: tuple[Array, ...]
    offset: Array
    size: Array
    node: Node
    places: Places

    @property
    def vectors(self) -> tuple[Array, ...]:
        return (*self.factors, self.offset, self.size)


Law = ScaleLaw | SignLaw | ShiftLaw


@dataclass(frozen=True, eq=False)
class Candidate:
    """A norm that could go, and the laws under which it computes nothing.

    ``dead`` are the cells of its output that hold a constant, whatever comes in; ``levels`` is that
    constant, as it leaves a rectifier behind the norm. These may store anything: every reader takes them
    times 0, and is given the constant.
    """

    node: Node
    laws: tuple[ScaleLaw | ShiftLaw, ...]
    dead: Cells
    levels: Array
    dead_channels: Places


@dataclass(frozen=True, eq=False)
class Field:
    """Where the gauge of a value may vary: along ``axes``; ``cells`` has one axis for each of them."""

    axes: tuple[int, ...]
    cells: Cells

    @property
    def is_fixed(self) -> bool:
        """Whether the gauge is known to be the identity."""
        return bool((self.cells == IDENTITY).all())

    def over(self, axes: tuple[int, ...], sizes: tuple[int, ...]) -> Cells:
        """The cells laid out over more axes, in a value of the same rank."""
        shape = [1] * len(axes)
        for axis, size in zip(self.axes, self.cells.shape, strict=True):
            shape[axes.index(axis)] = size
        laid_out: Cells = np.broadcast_to(self.cells.reshape(shape), sizes)
        return laid_out


FIXED = Field((), np.array(IDENTITY))


@dataclass(eq=False)
class Laws:
    """All laws of a network, as they are found."""

    laws: list[Law] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    count: int = 1

    def new_field(self, axes: tuple[int, ...], sizes: tuple[int, ...]) -> Field:
        """A field of new cells; axes of size 1 need none."""
        kept = [(axis, size) for axis, size in zip(axes, sizes, strict=True) if size != 1]
        shape = tuple(size for _, size in kept)
        cells = np.arange(self.count, self.count + int(np.prod(shape, dtype=np.int64)))
        self.count += cells.size
        return Field(tuple(axis for axis, _ in kept), cells.reshape(shape))

    def fix(self, cells: Cells, node: Node) -> None:
        """The identity and nothing else."""
        self.laws += scale_laws(cells, np.full(cells.shape, IDENTITY), 1.0, node)
        self.no_shift(cells, node)

    def no_shift(self, cells: Cells, node: Node) -> None:
        if (distinct := _distinct(cells)).size:
            self.laws += shift_laws([(distinct, 1.0)], 0.0, node)

    def positive(self, cells: Cells, node: Node) -> None:
        if (distinct := _distinct(cells)).size:
            self.laws.append(SignLaw((distinct,), node))

    def same(self, a: Cells, b: Cells, node: Node) -> None:
        """One gauge for both."""
        differ = a != b
        if not differ.any():
            return
        self.laws += scale_laws(a[differ], b[differ], 1.0, node)
        self.laws += shift_laws([(a[differ], 1.0), (b[differ], -1.0)], 0.0, node)


def scale_laws(a: Cells, b: Cells, ratio: Array | float, node: Node) -> list[ScaleLaw]:
    """``σ[a] = ratio * σ[b]``, element by element."""
    (a, b), (ratio,) = _flat([a, b], [ratio])
    found: list[ScaleLaw] = []
    for mask, cells, turned in (
        ((a != IDENTITY) & (b != IDENTITY) & ((a != b) | (ratio != 1)), (a, b), False),
        ((b == IDENTITY) & ((a != IDENTITY) | (ratio != 1)), (a,), False),
        ((a == IDENTITY) & (b != IDENTITY), (b,), True),
    ):
        if mask.any():
            factor = (1 / ratio if turned else ratio)[mask]
            places = np.flatnonzero(mask)
            found.append(ScaleLaw(tuple(c[mask] for c in cells), factor, node, places))
    return found


def shift_laws(
    terms: Sequence[tuple[Cells, Array | float]],
    offset: Array | float,
    node: Node,
    size: Array | float = 0.0,
) -> list[ShiftLaw]:
    """``sum(factor * δ[cells]) = offset``, element by element; the identity's shift is none."""
    cells, numbers = _flat([c for c, _ in terms], [*(f for _, f in terms), offset, size])
    *factors, offset, size = numbers
    speaks = np.array([c != IDENTITY for c in cells])
    found: list[ShiftLaw] = []
    patterns = speaks[:, :1] if speaks.all() else np.unique(speaks, axis=1)
    for pattern in patterns.T:
        mask = (speaks == pattern[:, None]).all(axis=0)
        kept = np.flatnonzero(pattern)
        if not kept.size and (offset[mask] == 0).all():
            continue
        kept = kept if kept.size else np.array([0])  # a contradiction, which is a law too
        law_cells = tuple(cells[i][mask] for i in kept)
        law_factors = tuple(factors[i][mask] for i in kept)
        places = np.flatnonzero(mask)
        found.append(ShiftLaw(law_cells, law_factors, offset[mask], size[mask], node, places))
    return found


def _flat(
    cells: Sequence[Cells], numbers: Sequence[Array | float]
) -> tuple[list[Cells], list[Array]]:
    shape = cells[0].shape
    vectors = [
        n.reshape(-1)
        if isinstance(n, np.ndarray) and n.shape == shape
        else np.broadcast_to(np.asarray(n, np.float64), shape).reshape(-1)
        if isinstance(n, np.ndarray)
        else np.full(cells[0].size, n, np.float64)
        for n in numbers
    ]
    return [c.reshape(-1) for c in cells], vectors


def _distinct(cells: Cells) -> Cells:
    flat = cells.reshape(-1)
    if flat.size and (np.diff(flat) > 0).all():
        return np.asarray(flat[flat != IDENTITY])
    found = np.unique(flat)
    return np.asarray(found[found != IDENTITY])
