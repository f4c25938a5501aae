"""The ledger: the new weights, biases and constants of a fold in progress, node by node.

An attempt to move a map (`walk`) writes into a copy, its fork, which is kept only where all of it succeeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import Loss, cast_loss, overflows
from bnfold.constants import Obstacle
from bnfold.graph import Node, Value
from bnfold.kinds import Linear, Sum
from bnfold.planning.quantised import rescaled
from bnfold.planning.reasons import Reason, Refused


@dataclass(frozen=True, eq=False)
class LinearState:
    """Factors on a weight's channels and the effective bias, all float64 (None: as in the file)."""

    out_scale: Array | None = None
    in_scale: Array | None = None
    bias: Array | None = None
    bias_changed: bool = False


@dataclass(frozen=True, eq=False)
class NormState:
    """A norm that stays, as the map ``x -> scale * x + shift``; ``mean`` and ``deviation`` of that x."""

    scale: Array
    shift: Array
    mean: Array | None = None
    deviation: Array | None = None


@dataclass(frozen=True, eq=False)
class ConstantState:
    """A constant that an operation that stays has been given."""

    array: Array


_Ways = dict[Node, tuple[Value, Node]]


class Ledger:
    """States by node (or by constant value), forked for every attempt."""

    def __init__(self, parent: Ledger | None = None) -> None:
        self._parent = parent
        self._states: dict[Any, Any] = {}
        self._bypassed: dict[Node, Value] = {}
        # Shared by all forks: what a merge of branches has made of nodes, and a cache.
        self._kinds: dict[Node, Linear] = parent._kinds if parent else {}
        self._gone: set[Node] = parent._gone if parent else set()
        self._dropped: dict[Node, list[Value]] = parent._dropped if parent else {}
        self._peaks: dict[Linear, Array] = parent._peaks if parent else {}
        self._ways: tuple[_Ways, _Ways] = parent._ways if parent else ({}, {})
        self._changed: set[Value] = parent._changed if parent else set()
        self._root: Ledger = parent._root if parent else self

    def fork(self) -> Ledger:
        return Ledger(self)

    def commit(self) -> None:
        """Hands everything over to the ledger that this one was forked from."""
        assert self._parent is not None
        self._parent._states.update(self._states)
        self._parent._bypassed.update(self._bypassed)

    def get(self, key: Any) -> Any:
        ledger: Ledger | None = self
        while ledger is not None:
            if key in ledger._states:
                return ledger._states[key]
            ledger = ledger._parent
        return None

    def put(self, key: Any, state: Any) -> None:
        self._states[key] = state

    def bypass(self, node: Node, source: Value | None = None) -> None:
        """``node`` disappears; its output is ``source``, by default its first input."""
        self._bypassed[node] = node.inputs[0] if source is None else source

    def is_bypassed(self, node: Node) -> bool:
        return self.source(node) is not None

    def source(self, node: Node) -> Value | None:
        """What the output of a bypassed node is, None for a node that stands."""
        ledger: Ledger | None = self
        while ledger is not None:
            if node in ledger._bypassed:
                return ledger._bypassed[node]
            ledger = ledger._parent
        return None

    def change(self, values: Iterable[Value]) -> None:
        """Notes down values whose meaning the plan has changed."""
        self._changed.update(values)

    def way_back(self, node: Node) -> tuple[Value, Node]:
        """What ``node`` reads by now, and who reads that: ``node`` is bypassed, and so are all in between.

        It leads only along values that nobody else reads and that are known to change: whoever walks
        there need not look at each of them.
        """
        return self._way(node, 0)

    def way_ahead(self, node: Node) -> Value:
        """What the output of the bypassed ``node`` ends as; it leads as `way_back` does."""
        return self._way(node, 1)[0]

    def _way(self, node: Node, direction: int) -> tuple[Value, Node]:
        known, bypassed, passed = self._ways[direction], self._root._bypassed, list[Node]()
        while True:
            passed.append(node)
            value = node.outputs[0] if direction else bypassed[node]
            if node in known:
                value, node = known[node]
            if len(value.readers) != 1 or value.is_output or value not in self._changed:
                break
            following = value.readers[0] if direction else value.producer
            if following not in bypassed or following.scope != node.scope:
                break
            node = following
        known |= dict.fromkeys(passed, (value, node))
        return value, node

    def path(self, value: Value) -> list[Value]:
        """``value`` and what it is by now, where the nodes that made it are bypassed."""
        found = [value]
        while found[-1].producer is not None:
            source = self.source(found[-1].producer)
            if source is None:
                break
            found.append(source)
        return found

    def origin(self, value: Value) -> Value:
        """What ``value`` is by now: the end of its path."""
        return self.path(value)[-1]

    def merge(self, keep: Node, kind: Linear, gone: Iterable[Node]) -> None:
        """``keep`` has become ``kind`` and stands for the nodes ``gone`` as well."""
        self._gone.update(gone)
        self._kinds[keep] = kind
        self._states.pop(keep, None)

    def drop_addend(self, total: Node, value: Value) -> None:
        """A sum no longer adds ``value``; with one addend left it disappears."""
        self._dropped.setdefault(total, []).append(value)
        left = self.addends(total)
        if len(left) == 1:
            self.bypass(total, left[0][0])

    def addends(self, total: Node) -> list[tuple[Value, float]]:
        """What a sum adds by now, each with its weight."""
        assert isinstance(total.kind, Sum)
        gone = self._dropped.get(total, [])
        pairs = zip(total.inputs, total.kind.weights, strict=True)
        return [(value, weight) for value, weight in pairs if value not in gone]

    def dropped(self, total: Node) -> tuple[Value, ...]:
        """What a sum that stands no longer adds."""
        return tuple(self._dropped.get(total, ()))

    def is_gone(self, node: Node) -> bool:
        """Whether a merge of branches has removed the node."""
        return node in self._gone

    def readers(self, value: Value) -> list[Node]:
        """Who reads a value, nodes that a merge has removed left out."""
        return [node for node in value.readers if node not in self._gone]

    def kind(self, node: Node) -> Linear:
        """What a linear node is by now."""
        kind = self._kinds.get(node, node.kind)
        assert isinstance(kind, Linear)
        return kind

    @property
    def states(self) -> Mapping[Any, Any]:
        return self._states

    # Linear ---------------------------------------------------------------------------------

    def linear(self, node: Node) -> LinearState:
        """The state of a linear node; one that nothing has touched yet starts from the file."""
        state = self.get(node)
        if isinstance(state, LinearState):
            return state
        kind = self.kind(node)
        if kind.bias is None:
            return LinearState()
        return LinearState(bias=kind.bias.float64() * kind.bias_factor)

    def absorb_output(self, node: Node, scale: Array, shift: Array) -> None:
        """``y -> scale * y + shift`` behind the linear ``node``; vectors over output channels.

        Raises:
            Refused: where the cast into the weight's own type would lose something.
        """
        kind = self.kind(node)
        check_changeable(node, kind)
        state = self.linear(node)
        bias = state.bias
        if bias is not None:
            bias = _along(kind, scale) * bias
        if bias is not None or np.any(shift != 0):
            bias = (0.0 if bias is None else bias) + _along(kind, shift)
        old = state.out_scale
        new = LinearState(scale if old is None else old * scale, state.in_scale, bias, True)
        self._check_cast(node, kind, new)
        self.put(node, new)

    def absorb_input(self, node: Node, scale: Array, shift: Array) -> None:
        """``x -> scale * x + shift`` in front of the linear ``node``; vectors over input channels.

        Raises:
            Refused: as for `absorb_output`, or where the shift cannot become a bias.
        """
        kind = self.kind(node)
        check_changeable(node, kind)
        state = self.linear(node)
        if np.any(shift != 0):
            if not kind.every_tap_everywhere or kind.layout.is_stack:
                convolution = kind.geometry is None or not kind.geometry.transposed
                padded = convolution and not kind.layout.is_stack
                reason = Reason.PADDED_READER if padded else Reason.SHIFT_AT_BORDERS
                raise Refused(reason, node.label)
            arriving = shift if state.in_scale is None else state.in_scale * shift
            added = kind.layout.contract(kind.weight.parts, arriving) * kind.weight_factor
            if state.out_scale is not None:
                added = added * state.out_scale
            bias = (0.0 if state.bias is None else state.bias) + _along(kind, added)
            state = replace(state, bias=bias, bias_changed=True)
        old = state.in_scale
        new = replace(state, in_scale=scale if old is None else old * scale)
        self._check_cast(node, kind, new)
        self.put(node, new)

    def _check_cast(self, node: Node, kind: Linear, state: LinearState) -> None:
        outputs = kind.layout.outputs
        scales = np.ones(outputs) if state.out_scale is None else state.out_scale
        if state.in_scale is None:
            if kind not in self._peaks:
                self._peaks[kind] = kind.layout.channel_peaks(kind.weight.parts)
            peaks = self._peaks[kind] * np.abs(scales)
        else:
            factors = state.out_scale, state.in_scale
            peaks = kind.layout.channel_peaks(kind.weight.parts, *factors)
        check_weight(peaks, kind.weight.dtype, node.label)
        if kind.weight.quantised is not None:
            rescaled(node, kind, state.out_scale, state.in_scale)
        if state.bias is not None:
            check_vector(state.bias, kind.weight.dtype, node.label)


def check_changeable(node: Node, kind: Linear) -> None:
    """Raises `Refused` where the weight or the bias of ``kind`` must not change."""
    weight, bias = kind.weight, kind.bias
    for obstacle in (kind.obstacle, weight.obstacle, bias and bias.obstacle):
        if obstacle and not _is_quantisation(obstacle, kind):
            raise Refused(Reason[obstacle.code], obstacle.culprit or node.label)


def _is_quantisation(obstacle: Obstacle, kind: Linear) -> bool:
    """Whether nothing but quantisation stands in the way, in a form that takes factors. In place of a
    quantised bias a layer can be given one of floats."""
    if obstacle.code != Reason.QUANTIZED_WEIGHT.name:
        return False
    return kind.weight.quantised is not None or obstacle is not kind.weight.obstacle


def _along(kind: Linear, vector: Array) -> Array:
    """A vector over output channels, shaped to broadcast as the bias of ``kind`` does."""
    return vector.reshape(-1, *[1] * (-1 - kind.bias_axis))


def check_weight(peaks: Array, dtype: DTypeLike, culprit: str) -> None:
    """Raises `Refused` where channels of these magnitudes do not survive in ``dtype``."""
    loss = cast_loss(peaks, dtype)
    if loss is not None:
        reason = Reason.OVERFLOW if loss is Loss.OVERFLOW else Reason.UNDERFLOW
        raise Refused(reason, culprit)


def check_vector(values: Array, dtype: DTypeLike, culprit: str) -> None:
    """Raises `Refused` where an element is not finite in ``dtype``."""
    if overflows(values, dtype):
        raise Refused(Reason.OVERFLOW, culprit)
