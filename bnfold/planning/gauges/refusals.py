"""Why no choice of gauges lets a norm go, in the words of the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import is_half
from bnfold.graph import Node
from bnfold.kinds import Norm
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
# How much further it may with what it has taken over: that is mostly an offset of its own written apart.
_TAKEN_OVER = 32.0


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
        node, kind = candidate.node, candidate.node.kind
        assert isinstance(kind, Norm)
        scale, own = norm.vectors(node, network.ledger)
        mean, deviation = norm.spread(node, network.ledger)
        most = _MOST_OFFSET_HALF if is_half(kind.dtype) else _MOST_OFFSET
        held = most * (deviation + np.abs(mean))
        _, shift = gauges.of(network.read[node])
        far = (kind.scale != 0) & (np.abs(kind.shift) > most * _held(kind) * np.abs(kind.scale))
        with np.errstate(invalid="ignore"):  # behind a scale of zero nothing has a mean
            together = np.abs(scale * mean + own) > _TAKEN_OVER * held * np.abs(scale)
        far = (far | (together & (scale != 0))) & (np.abs(shift) > held)
        if far.any():
            told = f"scales are more than {most:g} times smaller than the shifts beside them"
            detail = channels(np.flatnonzero(far).tolist(), kind.channels, told)
            found[node] = Refused(Reason.FAR_OFFSET, None, detail)
    return found


def _held(kind: Norm) -> Array:
    """How far from 0 what comes in is, in deviations."""
    assert kind.epsilon is not None
    return np.asarray(1 + np.abs(kind.mean) / np.sqrt(kind.variance + kind.epsilon))


def check_rest(node: Node, own: tuple[Array, Array], before: Array) -> None:
    """Raises `Refused` where a norm that stays would lose digits in a gauge of the scale ``before``.

    Its statistics stay: what they take off comes back in its shift, and the larger both are beside what
    it writes, the less is left of that.

    Args:
        node: the norm.
        own: its scale and shift, with all that it has absorbed.
        before: scale of the values that it reads.
    """
    kind, (scale, shift) = node.kind, own
    assert isinstance(kind, Norm) and kind.epsilon is not None
    most = _MOST_OFFSET_HALF if is_half(kind.dtype) else _MOST_OFFSET
    taken = np.abs(scale * kind.mean)
    deviation = np.abs(scale) * np.sqrt(kind.variance + kind.epsilon)
    written = np.abs(scale * kind.mean + shift) + deviation
    if (np.abs(before) * taken > most * (written + taken)).any():
        raise Refused(Reason.SCALE_RANGE, node.label)


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
        Clash.UNDECIDED: Reason.OTHER_SHIFT,
    }
    return Refused(reasons[conflict.clash], culprit)


def _signs(scale: Array, conflict: Conflict, count: int) -> str:
    negative = np.flatnonzero(scale < 0)
    if set(conflict.where.tolist()) <= set(negative.tolist()):
        return channels(conflict.where.tolist(), count, "scales are negative")
    return channels(
        conflict.where.tolist(), count, "scales are of another sign than others of the same values"
    )
