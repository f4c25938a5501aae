"""A look at a network as if its sizes were fixed: what stays only because an axis is free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from bnfold.constants import Shape
from bnfold.graph import Node, Oracle, Value


class FirstSizes:
    """An oracle that knows one assignment of sizes only, as if all were static."""

    rounds = 1

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def shape(self, value: Value, round: int) -> Shape | None:
        return self._oracle.shape(value, 0)

    def run(self, node: Node, arrays: Sequence[NDArray[Any]], round: int) -> list[NDArray[Any]]:
        return self._oracle.run(node, arrays, 0)
