"""Why no choice of gauges lets a norm go, in the words of the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import is_half
from bnfold.graph import Node, Norm
from bnfold.planning.gauges.conflicts import Clash, Conflict
from bnfold.planning.gauges.laws import Candidate
from bnfold.planning.gauges.network import Network
from bnfold.planning.gauges.solution import Gauges
from bnfold.planning.kinds import norm
from bnfold.planning.ledger import Ledger
from bnfold.planning.reasons import Reason, Refused, channels

# How many of its own standard deviations a norm may shift: each doubling costs the values before it,
# which others read as well, one binary digit.
_MOST_OFFSET, _MOST_OFFSET_HALF = 32.0, 4.0


def check_soundness(node: Node, network: Network) -> None:
    """Raises `Refused` where the norm by itself is no map that a gauge can hold."""
    kind = node.kind
    assert isinstance(kind, Norm)
    norm.check_source(node)
    scale, shift = norm.vectors(node, network.ledger)
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise Refused(Reason.OVERFLOW, node.label)
    if not network.value_readers(node.outputs[0]) and not node.outputs[0].is_output:
        raise Refused(Reason.UNREAD, node.outputs[0].name)


def far_offsets(
    accepted: Sequence[Candidate], network: Network, gauges: Gauges
) -> dict[Node, Refused]:
    """The norms whose own shifts, moved before them, would cost the values there their digits.

    How far is too far is measured beside what a channel holds anyway: its own mean, in deviations. A shift
    that goes on behind the norm costs nothing.
    """
    found = {}
    for candidate in accepted:
        kind = candidate.node.kind
        assert isinstance(kind, Norm) and kind.epsilon is not None
        deviation = np.sqrt(kind.variance + kind.epsilon)
        most = _MOST_OFFSET_HALF if is_half(kind.dtype) else _MOST_OFFSET
        held = most * (1 + np.abs(kind.mean) / deviation)
        _, shift = gauges.of(network.read[candidate.node])
        far = (kind.scale != 0) & (np.abs(kind.shift) > held * np.abs(kind.scale))
        far &= np.abs(shift) > held * deviation
        if far.any():
            told = f"scales are more than {most:g} times smaller than the shifts beside them"
            detail = channels(np.flatnonzero(far).tolist(), kind.channels, told)
            found[candidate.node] = Refused(Reason.FAR_OFFSET, None, detail)
    return found


def refusal_of(node: Node, conflict: Conflict, ledger: Ledger) -> Refused:
    """The sentence for a clash of laws."""
    kind = node.kind
    assert isinstance(kind, Norm)
    others = [n for n in conflict.nodes if n is not node]
    others.sort(key=lambda n: not isinstance(n.kind, Norm))
    culprit = others[0].label if others else node.label
    if conflict.clash is Clash.SIGN:
        scale, _ = norm.vectors(node, ledger)
        return Refused(Reason.NEGATIVE_SCALE, culprit, _signs(scale, conflict, kind.channels))
    if conflict.clash is Clash.CONSTANT:
        told = channels(conflict.where.tolist(), kind.channels, "scales are zero")
        return Refused(Reason.CONSTANT_CHANNELS, culprit, told)
    reasons = {
        Clash.SCALE: Reason.OTHER_SCALE,
        Clash.SHIFT: Reason.OTHER_SHIFT,
        Clash.RANGE: Reason.SCALE_RANGE,
    }
    return Refused(reasons[conflict.clash], culprit)


def _signs(scale: Array, conflict: Conflict, count: int) -> str:
    negative = np.flatnonzero(scale < 0)
    if set(conflict.where.tolist()) <= set(negative.tolist()):
        return channels(conflict.where.tolist(), count, "scales are negative")
    return channels(
        conflict.where.tolist(), count, "scales are of another sign than others of the same values"
    )
