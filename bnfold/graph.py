"""The neutral graph that the planner sees: values, nodes of some kind each, and who uses what.

Nothing here knows a file format, and nothing is changed after reading: a plan is data beside the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from bnfold.constants import Constant, Shape
from bnfold.kinds import Kind, Linear, Norm


@dataclass(eq=False)
class Value:
    """One tensor that flows between nodes. Value uses and shape uses are counted apart."""

    name: str
    scope: int = 0
    producer: Node | None = None
    readers: list[Node] = field(default_factory=list)
    shape_readers: list[Node] = field(default_factory=list)
    is_output: bool = False
    constant: Constant | None = None

    def __repr__(self) -> str:
        """By name alone: a value leads to the whole graph."""
        return f"Value({self.name!r})"


@dataclass(eq=False)
class Node:
    """One operator. ``inputs`` are the values that flow into it, weights and settings left out."""

    name: str
    op: str
    kind: Kind
    inputs: list[Value]
    outputs: list[Value]
    scope: int = 0
    native: Any = None

    def __repr__(self) -> str:
        """By name alone: a node leads to the whole graph."""
        return f"Node({self.name!r}, {type(self.kind).__name__})"

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{self.op} '{self.name}'"


class Oracle(Protocol):
    """What a format owes the planner: shapes, and the real operators to ask."""

    @property
    def rounds(self) -> int:
        """How many assignments of sizes to the dynamic axes there are (1 where all are static)."""

    def shape(self, value: Value, round: int) -> Shape | None:
        """The shape of ``value`` in that assignment, None where it cannot be known."""

    def run(self, node: Node, arrays: Sequence[NDArray[Any]], round: int) -> list[NDArray[Any]]:
        """The native operator of ``node`` on ``arrays``, one for each of ``node.inputs``.

        Arrays may have other sizes than the values along axes that the node does not touch.

        Raises:
            NotImplementedError: where the operator cannot be run on them.
        """


@dataclass(eq=False)
class Graph:
    """Nodes in topological order, bodies of control flow after the node that holds them."""

    nodes: list[Node]
    oracle: Oracle
    notes: list[str] = field(default_factory=list)

    @property
    def norms(self) -> list[Node]:
        return [node for node in self.nodes if isinstance(node.kind, Norm)]

    def rank(self, value: Value) -> int | None:
        """The rank of a value, from its producer where that is certain, else from its shape."""
        producer = value.producer
        if producer is not None and isinstance(producer.kind, Linear) and producer.kind.rank:
            return producer.kind.rank
        shape = self.oracle.shape(value, 0)
        return None if shape is None else len(shape)

    def shapes(self, value: Value) -> list[Shape] | None:
        """The shape in every assignment, None where one is unknown."""
        shapes = [self.oracle.shape(value, i) for i in range(self.oracle.rounds)]
        return None if any(s is None for s in shapes) else [s for s in shapes if s is not None]
