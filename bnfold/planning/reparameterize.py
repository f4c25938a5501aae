"""Structural re-parameterisation (RepVGG): finds parallel linear layers that meet in a sum, to merge them.

A norm on the common input, or that input itself, may be among what is added. `joining` says how two
become one; here they are found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Affine, Linear, Norm, Sum
from bnfold.planning import joining
from bnfold.planning.decision import MergeBranches
from bnfold.planning.kinds import affine, norm
from bnfold.planning.ledger import (
    Ledger,
    LinearState,
    check_changeable,
    check_vector,
    check_weight,
)
from bnfold.planning.reasons import Reason, Refused


@dataclass(frozen=True, eq=False)
class Merge:
    """One merge that was made, and the values whose meaning it changed."""

    edit: MergeBranches
    region: frozenset[Value]


@dataclass(frozen=True, eq=False)
class _Leaf:
    """One addend of a tree of sums. ``node`` is None where the common input itself is added."""

    value: Value
    total: Node
    source: Value
    node: Node | None
    sign: float

    def may_leave(self, ledger: Ledger) -> bool:
        """Whether its sum can do without it: what would remain alone must not be subtracted."""
        others = [sign for value, sign in ledger.addends(self.total) if value is not self.value]
        return len(others) > 1 or others == [1]


def merge_branches(graph: Graph, ledger: Ledger) -> Iterator[Merge]:
    """Makes every merge that there is, one sum after the other, and yields it.

    Args:
        graph: the network.
        ledger: what its nodes have absorbed; the merges are entered into it.
    """
    for root in graph.nodes:
        if not _is_plain_sum(root) or ledger.is_bypassed(root):
            continue
        if _parent_sum(root, ledger) is not None:
            continue
        while (merge := _merge_in(root, ledger)) is not None:
            yield merge


def _is_plain_sum(node: Node) -> bool:
    return isinstance(node.kind, Sum) and node.kind.is_plain


def _parent_sum(node: Node, ledger: Ledger) -> Node | None:
    """The plain sum that alone reads the output of ``node``, bypassed nodes in between."""
    value = node.outputs[0]
    while len(readers := ledger.readers(value)) == 1 and not value.is_output:
        if not ledger.is_bypassed(readers[0]):
            return readers[0] if _is_plain_sum(readers[0]) else None
        value = readers[0].outputs[0]
    return None


def _merge_in(root: Node, ledger: Ledger) -> Merge | None:
    if ledger.is_bypassed(root):
        return None
    leaves, inner = _leaves(root, ledger)
    for keep in leaves:
        if keep.node is None or not _is_joinable(keep.node, ledger):
            continue
        others = [leaf for leaf in leaves if leaf is not keep and _can_join(keep, leaf, ledger)]
        if not others:
            continue
        try:
            return _made(keep, others[0], inner, ledger)
        except Refused:
            continue
    return None


def _leaves(root: Node, ledger: Ledger) -> tuple[list[_Leaf], list[Value]]:
    """The addends below ``root``, and the values between its sums."""
    found: list[_Leaf] = []
    inner: list[Value] = []
    pending: list[tuple[Node, float]] = [(root, 1)]
    while pending:
        total, outer = pending.pop()
        for value, sign in ledger.addends(total):
            made = ledger.origin(value)
            node = made.producer
            alone = _read_once(value, made, ledger)
            if alone and node is not None and _is_plain_sum(node):
                inner.append(value)
                pending.append((node, outer * sign))
                continue
            found.append(_leaf(value, made, total, outer * sign, alone, ledger))
    return found, inner


def _leaf(
    value: Value, made: Value, total: Node, sign: float, alone: bool, ledger: Ledger
) -> _Leaf:
    node = made.producer
    if alone and node is not None and isinstance(node.kind, Linear | Norm | Affine):
        return _Leaf(value, total, ledger.origin(node.inputs[0]), node, sign)
    return _Leaf(value, total, made, None, sign)


def _read_once(value: Value, made: Value, ledger: Ledger) -> bool:
    """Whether nothing but the sum reads any value from ``made`` on to ``value``."""
    while True:
        if value.is_output or len(ledger.readers(value)) != 1 or value.constant is not None:
            return False
        if value is made or value.producer is None:
            return True
        source = ledger.source(value.producer)
        assert source is not None
        value = source


def _is_joinable(node: Node, ledger: Ledger) -> bool:
    return isinstance(node.kind, Linear) and joining.is_joinable(ledger.kind(node))


def _can_join(keep: _Leaf, leaf: _Leaf, ledger: Ledger) -> bool:
    """Whether ``leaf`` works on the same input as ``keep`` in the same way."""
    if leaf.source is not keep.source or not leaf.may_leave(ledger) or keep.node is None:
        return False
    if any(each.total.inputs.count(each.value) != 1 for each in (keep, leaf)):
        return False  # added twice, it would leave twice
    kind = ledger.kind(keep.node)
    if leaf.node is None or not isinstance(leaf.node.kind, Linear):
        return joining.takes_single_channels(kind)
    return joining.fit(kind, ledger.kind(leaf.node))


def _made(keep: _Leaf, leaf: _Leaf, inner: list[Value], ledger: Ledger) -> Merge:
    """Adds the weight of ``leaf`` to that of ``keep`` and takes it out of the sum.

    Raises:
        Refused: where the sum does not survive in the weight's type, or must not change.
    """
    assert keep.node is not None
    kind = ledger.kind(keep.node)
    check_changeable(keep.node, kind)
    other = _as_linear(leaf, kind, ledger)
    merged = joining.joined(kind, ledger.linear(keep.node), *other, leaf.sign * keep.sign)
    peaks = merged.layout.channel_peaks(merged.weight.parts)
    check_weight(peaks, merged.weight.dtype, keep.node.label)
    if merged.bias is not None:
        check_vector(merged.bias.float64(), merged.bias.dtype, keep.node.label)
    gone = () if leaf.node is None else (leaf.node,)
    ledger.merge(keep.node, merged, gone)
    ledger.drop_addend(leaf.total, leaf.value)
    edit = MergeBranches(keep.node, gone, merged.layout.shape[2:], merged.geometry)
    changed = {*inner, *ledger.path(keep.value)}
    changed |= set() if leaf.node is None else set(ledger.path(leaf.value))
    return Merge(edit, frozenset(changed))


def _as_linear(leaf: _Leaf, like: Linear, ledger: Ledger) -> tuple[Linear, LinearState]:
    """A leaf as a layer beside ``like``."""
    if leaf.node is not None and isinstance(leaf.node.kind, Linear):
        check_changeable(leaf.node, ledger.kind(leaf.node))
        return ledger.kind(leaf.node), ledger.linear(leaf.node)
    return joining.single_channels(*_pointwise(leaf, like, ledger), like)


def _pointwise(leaf: _Leaf, like: Linear, ledger: Ledger) -> tuple[Array, Array]:
    """The per-channel map of a leaf that is a norm, an affine or nothing at all.

    Raises:
        Refused: where it works along another axis than the channels of ``like``.
    """
    assert like.rank is not None
    node, channels, axis = leaf.node, like.layout.outputs, like.out_axis % like.rank
    if node is None:
        return np.ones(channels), np.zeros(channels)
    if isinstance(node.kind, Norm):
        if node.kind.axis != axis:
            raise Refused(Reason.AXIS_MISMATCH, node.label)
        norm.check_source(node)
        return norm.vectors(node, ledger)
    found = affine.current_map(node, like.rank, ledger).vectors(axis, channels)
    if found is None:
        raise Refused(Reason.AXIS_MISMATCH, node.label)
    return found
