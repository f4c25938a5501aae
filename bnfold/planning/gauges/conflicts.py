"""What a law that cannot hold is told by."""

from __future__ import annotations

from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from bnfold.graph import Node


class Clash(Enum):
    """Which law fails."""

    SCALE = auto()  # two different scales for one value
    SIGN = auto()  # a negative scale where only a positive one passes
    RANGE = auto()  # scales that lie too far apart for the number type
    SHIFT = auto()  # two different shifts for one value


class Conflict(Exception):
    """Raised where a law contradicts those that hold: which, in which channels, and because of whom."""

    def __init__(
        self, clash: Clash, where: NDArray[np.bool_], nodes: tuple[Node, ...] = ()
    ) -> None:
        super().__init__(clash.name)
        self.clash = clash
        self.where = where
        self.nodes = nodes
