"""The interface of a walk (see `planning.walk`) that the kinds of operators use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bnfold.algebra.affine import AffineMap
from bnfold.graph import Graph, Node, Value
from bnfold.planning.ledger import Ledger

if TYPE_CHECKING:
    from typing_extensions import Self


class Walk(Protocol):
    """One attempt to move a map away from its source, as the kinds see it; see `planning.walk`."""

    graph: Graph
    ledger: Ledger
    merging: bool

    def fork(self, node: Node) -> Self: ...
    def join(self, branch: Self) -> None: ...
    def absorbed_by(self, node: Node) -> None: ...
    def pull(self, value: Value, amap: AffineMap, reader: Node) -> None: ...
    def push(self, value: Value, amap: AffineMap) -> None: ...
