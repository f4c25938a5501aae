"""A walk: one attempt to move a BatchNorm's affine map through the graph into weights.

It goes backward (pull) or forward (push), from node to node.

A walk only asks: every kind of node says in its own file under `kinds` how a map passes it or is
absorbed by it. What is absorbed goes into a fork of the ledger; a refusal anywhere discards it all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from bnfold.algebra.affine import AffineMap
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Movement, Opaque
from bnfold.planning import kinds
from bnfold.planning.ledger import ConstantState, Ledger
from bnfold.planning.reasons import Reason, Refused

_DEEPEST = 64  # sums within sums at which a branch is tried for another


class Walk:
    """The state of one attempt: what was absorbed (``into``), which values change (``visited``).

    A kind that asks for another `pull` or `push` only notes it down. The first call, from outside,
    works all of them off, so that the length of a way costs no stack.
    """

    def __init__(self, graph: Graph, ledger: Ledger, *, merging: bool, depth: int = 0) -> None:
        self.graph = graph
        self.ledger = ledger.fork()
        self.merging = merging
        self.into: list[Node] = []
        self.visited: list[Value] = []
        self._depth = depth
        self._asked: list[Callable[[], None]] = []
        self._is_working = False

    def fork(self, node: Node) -> Walk:
        """A walk of its own for one of several ways to pass ``node``.

        Raises:
            Refused: where too many such choices hang on one another.
        """
        if self._depth >= _DEEPEST:
            raise Refused(Reason.TOO_MANY_WAYS, node.label)
        return Walk(self.graph, self.ledger, merging=self.merging, depth=self._depth + 1)

    def _ask(self, step: Callable[[], None]) -> None:
        self._asked.append(step)
        if self._is_working:
            return
        self._is_working, waiting = True, list[Callable[[], None]]()
        try:
            while self._asked or waiting:
                waiting += reversed(self._asked)
                self._asked.clear()
                waiting.pop()()
        finally:
            self._asked.clear()
            self._is_working = False

    def join(self, branch: Walk) -> None:
        """Takes over what a fork of this walk has reached."""
        branch.ledger.commit()
        self.into += branch.into
        self.visited += branch.visited

    def absorbed_by(self, node: Node) -> None:
        if node not in self.into:
            self.into.append(node)

    def pull(self, value: Value, amap: AffineMap, reader: Node) -> None:
        """Makes ``value`` arrive at ``reader`` as ``amap(value)`` by changing what produces it.

        Raises:
            Refused: where that is not exact, or not possible.
        """
        self._ask(partial(self._pull, value, amap, reader))

    def _pull(self, value: Value, amap: AffineMap, reader: Node) -> None:
        if amap.is_identity:
            return
        if value.constant is not None:
            self.absorb_in_constant(value, amap, reader)
            return
        node = value.producer
        if value.is_output:
            raise Refused(Reason.GRAPH_OUTPUT, value.name)
        if node is None:
            raise Refused(Reason.GRAPH_INPUT, value.name)
        if node.scope != reader.scope:
            raise Refused(Reason.CAPTURED_VALUE, value.name)
        self._check_other_readers(value, amap, reader)
        self.visited.append(value)
        if self.ledger.is_bypassed(node):
            source, last = self.ledger.way_back(node)
            self.pull(source, amap, last)
        else:
            kinds.of(node).pull(node, value, amap, self)

    def push(self, value: Value, amap: AffineMap) -> None:
        """Makes every reader of ``value`` compute as if it were ``amap(value)``.

        Raises:
            Refused: where that is not exact, or not possible.
        """
        self._ask(partial(self._push, value, amap))

    def _push(self, value: Value, amap: AffineMap) -> None:
        if amap.is_identity:
            return
        if value.is_output:
            raise Refused(Reason.READER_IS_OUTPUT, value.name)
        self.visited.append(value)
        for reader in dict.fromkeys(self.ledger.readers(value)):
            if reader.scope != value.scope:
                raise Refused(Reason.CAPTURED_VALUE, value.name)
            if self.ledger.is_bypassed(reader):
                self.push(self.ledger.way_ahead(reader), amap)
            else:
                kinds.of(reader).push(reader, value, amap, self)

    def _check_other_readers(self, value: Value, amap: AffineMap, reader: Node) -> None:
        """Others may read ``value`` only where the map leaves its elements as they are."""
        readers = self.ledger.readers(value)
        if readers.count(reader) > 1:
            raise Refused(Reason.ACROSS_REGIONS, reader.label)
        for other in readers:
            if other is reader:
                continue
            if isinstance(other.kind, Opaque) and other.kind.rounds:
                raise Refused(Reason.QUANTIZED_VALUE, other.label)
            if not isinstance(other.kind, Movement) or other.scope != value.scope:
                raise Refused(Reason.SHARED_VALUE, other.label)
            if not kinds.movement.reads_unchanged(other, value, amap, self):
                raise Refused(Reason.SHARED_VALUE, other.label)

    def absorb_in_constant(self, value: Value, amap: AffineMap, reader: Node) -> None:
        assert value.constant is not None
        kinds.affine.check_fixed(value.constant)
        if not np.issubdtype(value.constant.dtype, np.floating):
            raise Refused(Reason.SHARED_CONSTANT, reader.label)
        state = self.ledger.get((reader, value))
        old = state.array if isinstance(state, ConstantState) else value.constant.float64()
        kinds.affine.refuse_misfit(reader, amap, old.shape)
        new = amap.scale * old + amap.shift
        kinds.affine.check_constant(new, value.constant, reader)
        self.ledger.put((reader, value), ConstantState(new))
        self.absorbed_by(reader)
