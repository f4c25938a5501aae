"""Channels with a scale of 0: a norm makes constants of them, which need not be computed.

``relu(0 x + t) = relu(t)``: behind a norm that is gone such a channel stores whatever came in, and its
readers take it times 0 and are given the constant, as a shift. A rectifier, and whatever else is its
own argument where that is positive, hands a positive constant on as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.graph import Node
from bnfold.kinds import Homogeneous
from bnfold.planning.gauges.laws import Cells, Laws, ScaleLaw, ShiftLaw
from bnfold.planning.gauges.network import Network
from bnfold.planning.kinds import norm


def levels(node: Node, network: Network) -> Array:
    """What each channel holds behind a norm where its scale is 0, rectifiers that read it counted in.

    NaN where its readers see different constants.
    """
    _, shift = norm.vectors(node, network.ledger)
    readers = network.value_readers(node.outputs[0])
    rectified = [isinstance(r.kind, Homogeneous) and r.kind.rectifies for r in readers]
    if any(rectified):
        otherwise = 0.0 if all(rectified) else np.nan
        return np.where(shift < 0, otherwise, shift)
    return np.asarray(shift)


class Obstacles:
    """Where a constant cannot be handed on, and because of whom.

    Args:
        laws: of the network. A law for scales ties a cell to another that need not be constant; a law for
            shifts wants none.
    """

    def __init__(self, laws: Laws) -> None:
        self._ties = [law for law in laws.laws if isinstance(law, ScaleLaw)]
        self._unshifted = [law for law in laws.laws if isinstance(law, ShiftLaw)]
        self._is_tied = _touched(self._ties, laws.count)
        keeping = [law for law in self._unshifted if _keeps_positives(law.node)]
        others = [law for law in self._unshifted if not _keeps_positives(law.node)]
        self._below_zero = _touched(keeping, laws.count)
        self._anywhere = _touched(others, laws.count)

    def stand_in_the_way(self, cells: Cells, levels: Array) -> NDArray[np.bool_]:
        """At which cells a constant of that level cannot be handed on."""
        below = (levels < 0) & self._below_zero[cells]
        blocked: NDArray[np.bool_] = (levels != 0) & (self._anywhere[cells] | below)
        return blocked | np.isnan(levels) | self._is_tied[cells]

    def nodes(self, cells: Cells, levels: Array) -> tuple[Node, ...]:
        """Whose laws do so; without laws it is those whose readers see different constants."""
        laws: list[ScaleLaw | ShiftLaw] = [*self._ties, *self._unshifted]
        negative = (levels < 0).any()
        found = (
            law.node
            for law in laws
            if negative or isinstance(law, ScaleLaw) or not _keeps_positives(law.node)
            if any(np.isin(c, cells).any() for c in law.cells)
        )
        return tuple(dict.fromkeys(found))


def _touched(laws: Sequence[ScaleLaw | ShiftLaw], count: int) -> NDArray[np.bool_]:
    found = np.zeros(count, bool)
    for law in laws:
        for cells in law.cells:
            found[cells] = True
    return found


def _keeps_positives(node: Node) -> bool:
    """Whether a positive number leaves it as it is."""
    return isinstance(node.kind, Homogeneous) and node.kind.axes is None
