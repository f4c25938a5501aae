"""Which of the structural rules speaks of a layer that stays: exactly one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.audit.rule import Check, Hit, sentence_of
from bnfold.planning.reasons import Reason

if TYPE_CHECKING:
    from bnfold.audit.subject import Layer, Subject
    from bnfold.graph import Node
    from bnfold.kinds import Kind

PRE_ACTIVATION = "pre-activation"
SHARED = "shared-value"
BORDERS = "zero-padded-reader"
ALONE = "stands-alone"

SHARED_REASONS = (
    Reason.SHARED_VALUE,
    Reason.GRAPH_OUTPUT,
    Reason.READER_IS_OUTPUT,
    Reason.CAPTURED_VALUE,
    Reason.ACROSS_REGIONS,
)
BORDER_REASONS = (Reason.PADDED_READER, Reason.SHIFT_AT_BORDERS, Reason.SHIFT_BLOCKED)
ALONE_REASONS = (
    Reason.GRAPH_INPUT,
    Reason.NONLINEAR_PRODUCER,
    Reason.OPAQUE_PRODUCER,
    Reason.NONLINEAR_READER,
    Reason.OPAQUE_READER,
    Reason.UNEQUAL_BRANCHES,
    Reason.UNREAD,
    Reason.NEGATIVE_SCALE,
    Reason.FAR_OFFSET,
    Reason.CONSTANT_CHANNELS,
    Reason.SCALE_RANGE,
)
STRUCTURAL_REASONS = (*SHARED_REASONS, *BORDER_REASONS, *ALONE_REASONS)


def kept_because(layer: Layer) -> str | None:
    """The situation of a layer that stays for the shape of the network, None for other layers."""
    reason = layer.reason
    if reason in STRUCTURAL_REASONS and is_pre_activation(layer):
        return PRE_ACTIVATION
    if reason in SHARED_REASONS:
        return SHARED
    if reason in BORDER_REASONS:
        return BORDERS
    return ALONE if reason in ALONE_REASONS else None


def is_pre_activation(layer: Layer) -> bool:
    """Whether it stands in front of an activation and has no linear layer of its own before it."""
    from bnfold.kinds import Homogeneous, Linear, Opaque, Product

    producer = layer.source.producer
    if producer is None or isinstance(producer.kind, Opaque | Homogeneous | Product):
        return False
    if isinstance(producer.kind, Linear) and len(layer.source.readers) == 1:
        return False
    readers = _behind_scales(layer.node)
    return bool(readers) and all(_is_nonlinear(r.kind) for r in readers)


def _is_nonlinear(kind: Kind) -> bool:
    from bnfold.kinds import Homogeneous, Opaque, Product

    return kind.nonlinear if isinstance(kind, Opaque) else isinstance(kind, Homogeneous | Product)


def _behind_scales(node: Node) -> list[Node]:
    """Who reads a layer; element-wise operations with a constant, which go into it, left out."""
    from bnfold.kinds import Affine

    readers = node.outputs[0].readers
    while len(readers) == 1 and isinstance(readers[0].kind, Affine):
        readers = readers[0].outputs[0].readers
    return readers


def situation(name: str) -> Check:
    """The check of a rule that reports one of these situations."""

    def check(subject: Subject) -> list[Hit]:
        concerned = [layer for layer in subject.layers if kept_because(layer) == name]
        return [Hit(sentence_of(layer), layer.name) for layer in concerned]

    return check
