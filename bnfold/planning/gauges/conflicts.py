"""Which operator to name where the equations for scales and shifts contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.graph import Node


class Clash(Enum):
    """Which law fails, those first that no other numbers in the file would mend."""

    SCALE = auto()  # two different scales for one value
    SHIFT = auto()  # two different shifts for one value
    CONSTANT = auto()  # a channel without a scale, whose readers do not all take it for zero
    RANGE = auto()  # scales that lie too far apart for the number type
    SIGN = auto()  # a negative scale where only a positive one passes
    UNDECIDED = auto()  # channels that were looked at together would need different unknowns


class Conflict(Exception):
    """Raised where a law contradicts those that hold: which, where, and because of whom.

    ``where`` is a mask over the law's elements, or, for all laws of a norm, a list of its channels.
    """

    def __init__(self, clash: Clash, where: NDArray[Any], nodes: tuple[Node, ...] = ()) -> None:
        super().__init__(clash.name)
        self.clash = clash
        self.where = where
        self.nodes = nodes

    def together(self, several: Sequence[Conflict]) -> Conflict:
        """All channels of one kind of clash in one."""
        where = np.unique(np.concatenate([c.where for c in several]))
        return Conflict(self.clash, where, self.nodes)
