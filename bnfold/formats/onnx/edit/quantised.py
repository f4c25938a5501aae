"""New integers, scales and zero points in the nodes that make a quantised constant."""

from __future__ import annotations

import onnx

from bnfold.formats.onnx.edit.working_copy import WorkingCopy, set_attribute
from bnfold.formats.onnx.graph.quantised import StoredAt
from bnfold.planning.decision import Requantise

_INTEGERS, _SCALE, _ZERO = 0, 1, 2


def requantise(draft: WorkingCopy, edit: Requantise) -> None:
    """Carries out ``edit`` on the DequantizeLinear that makes the constant, and on the QuantizeLinear
    before it, where there is one: both go by the same scale and zero point."""
    native = edit.stored.native
    assert isinstance(native, StoredAt)
    dequantise = draft.copy_of(native.dequantise)
    quantise = None if native.quantise is None else draft.copy_of(native.quantise)
    _regrid(draft, edit, dequantise)
    if edit.integers is not None:
        like, integers = edit.stored.integers, edit.integers
        draft.replace(dequantise, _INTEGERS, lambda: iter([integers()]), like.shape, like.dtype)
    if quantise is not None:
        _follow(draft, edit, quantise, dequantise)


def _regrid(draft: WorkingCopy, edit: Requantise, proto: onnx.NodeProto) -> None:
    """The new scale and zero point."""
    scale, zero = edit.scale, edit.zero
    draft.replace(proto, _SCALE, lambda: iter([scale]), scale.shape, scale.dtype)
    if zero is not None:
        draft.replace(proto, _ZERO, lambda: iter([zero]), zero.shape, zero.dtype, "zero_point")
    if edit.axis is not None:
        set_attribute(proto, "axis", edit.axis)


def _follow(
    draft: WorkingCopy, edit: Requantise, quantise: onnx.NodeProto, dequantise: onnx.NodeProto
) -> None:
    """The rounding that comes before ``dequantise``, on the same grid."""
    for position in (_SCALE, _ZERO) if edit.zero is not None else (_SCALE,):
        draft.read_same(quantise, dequantise, position)
    if edit.axis is not None:
        set_attribute(quantise, "axis", edit.axis)
    if edit.floats is not None:
        like, floats = edit.stored.latent, edit.floats
        assert like is not None
        draft.replace(quantise, _INTEGERS, lambda: iter([floats()]), like.shape, like.dtype)
