"""A BatchNorm: the source of the maps that are moved; one that stays can absorb another map."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import AffineMap, Array
from bnfold.graph import Node, Value
from bnfold.kinds import Norm
from bnfold.planning.kinds.walking import Walk
from bnfold.planning.ledger import Ledger, NormState, check_vector
from bnfold.planning.reasons import Reason, Refused


def check_source(node: Node) -> None:
    """Raises `Refused` where the norm is no finite constant map."""
    kind = node.kind
    assert isinstance(kind, Norm)
    if kind.obstacle:
        raise Refused(Reason[kind.obstacle.code], kind.obstacle.culprit)
    if kind.is_sound:
        return
    named = {"mean": kind.mean, "variance": kind.variance, "scale": kind.scale, "shift": kind.shift}
    for name, array in named.items():
        if not np.isfinite(array).all():
            raise Refused(Reason.NON_FINITE_STATISTICS, name)
    if (kind.variance < 0).any():
        raise Refused(Reason.NEGATIVE_VARIANCE, f"minimum {kind.variance.min():.3g}")
    if kind.epsilon is None:
        raise Refused(Reason.NO_GRAPH)
    if (kind.variance + kind.epsilon <= 0).any():
        raise Refused(Reason.ZERO_VARIANCE, f"epsilon {kind.epsilon:g}")


def vectors(node: Node, ledger: Ledger) -> tuple[Array, Array]:
    """``(s, t)`` of the norm, with all that it has absorbed so far."""
    assert isinstance(node.kind, Norm)
    state = ledger.get(node)
    if isinstance(state, NormState):
        return state.scale, state.shift
    return node.kind.vectors()


def spread(node: Node, ledger: Ledger) -> tuple[Array, Array]:
    """Mean and deviation of what flows in by now, as the statistics tell."""
    kind, state = node.kind, ledger.get(node)
    assert isinstance(kind, Norm) and kind.epsilon is not None
    if isinstance(state, NormState) and state.mean is not None and state.deviation is not None:
        return state.mean, state.deviation
    return kind.mean, np.sqrt(kind.variance + kind.epsilon)


def magnitude(node: Node, ledger: Ledger) -> Array:
    """How large the values are that it writes, and the numbers of which its shift is the sum.

    Its own statistics tell: what comes in is about as far from 0 as its mean and deviation say.
    """
    kind = node.kind
    assert isinstance(kind, Norm) and kind.epsilon is not None
    scale, shift = vectors(node, ledger)
    deviation = np.sqrt(kind.variance + kind.epsilon)
    return np.asarray(np.abs(shift) + np.abs(scale) * (np.abs(kind.mean) + deviation))


def parameters(kind: Norm, state: NormState) -> tuple[Array, Array]:
    """The gamma and beta with which ``kind``, its statistics unchanged, becomes ``state``."""
    assert kind.epsilon is not None
    deviation = np.sqrt(kind.variance + kind.epsilon)
    return state.scale * deviation, state.shift + state.scale * kind.mean


def pull(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    scale, shift = _arriving(node, amap, walk, Reason.OPAQUE_PRODUCER)
    s, t = vectors(node, walk.ledger)
    _absorb(node, NormState(scale * s, scale * t + shift, *spread(node, walk.ledger)), walk)


def push(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    scale, shift = _arriving(node, amap, walk, Reason.OPAQUE_READER)
    s, t = vectors(node, walk.ledger)
    mean, deviation = spread(node, walk.ledger)
    with np.errstate(all="ignore"):  # behind a scale of zero nothing is spread
        before = (mean - shift) / scale, deviation / np.abs(scale)
    _absorb(node, NormState(s * scale, s * shift + t, *before), walk)


def _arriving(node: Node, amap: AffineMap, walk: Walk, otherwise: Reason) -> tuple[Array, Array]:
    kind = node.kind
    assert isinstance(kind, Norm)
    if not walk.merging:
        raise Refused(otherwise, node.label)
    check_source(node)
    found = amap.vectors(kind.axis, kind.channels)
    if found is None:
        raise Refused(Reason.AXIS_MISMATCH, node.label)
    return found


def _absorb(node: Node, state: NormState, walk: Walk) -> None:
    kind = node.kind
    assert isinstance(kind, Norm)
    for array in parameters(kind, state):
        check_vector(array, kind.dtype, node.label)
    walk.ledger.put(node, state)
    walk.absorbed_by(node)
