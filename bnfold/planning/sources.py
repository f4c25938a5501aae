"""Where the maps that a plan moves come from: normalisations, and operations with a constant."""

from __future__ import annotations

from typing import Literal

from bnfold.algebra.affine import AffineMap
from bnfold.graph import Node
from bnfold.kinds import Affine, Norm
from bnfold.planning import kinds
from bnfold.planning.kinds import norm
from bnfold.planning.reasons import Reason, Refused
from bnfold.planning.walk import Walk


def is_source(node: Node) -> bool:
    """Whether its map is one to move: a norm's, or that of an operation with a constant."""
    kind = node.kind
    return isinstance(kind, Norm) or (isinstance(kind, Affine) and not kind.computed_statistics)


def source_of(node: Node) -> Literal["batch_norm", "affine"]:
    """How its decision is counted."""
    return "batch_norm" if isinstance(node.kind, Norm) else "affine"


def source_map(node: Node, walk: Walk) -> AffineMap:
    """What the source computes, as a map on its value.

    Raises:
        Refused: where that is not a finite constant map.
    """
    kind = node.kind
    if isinstance(kind, Norm):
        norm.check_source(node)
    rank = walk.graph.rank(node.inputs[0])
    if rank is None or (isinstance(kind, Norm) and rank <= kind.axis):  # one channel, no axis
        raise Refused(Reason.UNKNOWN_SHAPE, node.inputs[0].name)
    if isinstance(kind, Norm):
        scale, shift = norm.vectors(node, walk.ledger)
        amap = AffineMap.per_channel(scale, shift, kind.axis, rank)
    else:
        amap = kinds.affine.current_map(node, rank, walk.ledger)
        kinds.affine.refuse_growth(node, amap, walk.graph)
        assert isinstance(kind, Affine)
        if kind.constant is not None:
            kinds.affine.check_fixed(kind.constant)
    if not amap.is_finite:
        raise Refused(Reason.OVERFLOW, node.label)
    return amap
