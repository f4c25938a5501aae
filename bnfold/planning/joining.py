"""Merging two parallel linear layers whose outputs are added into one (as in RepVGG): the arithmetic.

A linear layer is linear in its weight: matrices add up, and so do convolution kernels laid over one
another by the position of their taps (Ding et al., *RepVGG*, CVPR 2021; *ACNet*, ICCV 2019). A map of
single channels is a diagonal matrix, or a kernel of one tap with the map on its diagonal.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.algebra.kernels import Slide, common_steps, overlaid
from bnfold.algebra.weights import WeightLayout
from bnfold.constants import Constant
from bnfold.kinds import Geometry, Linear
from bnfold.planning.ledger import LinearState


def is_joinable(kind: Linear) -> bool:
    """Whether it is a matrix, or a convolution whose geometry is known; two quantised ones do not
    make a quantised one."""
    if kind.weight.obstacle is not None or kind.activation is not None:
        return False
    if kind.geometry is None:
        return len(kind.layout.shape) == 2 and kind.weight_factor != 0
    return not kind.geometry.transposed


def fit(a: Linear, b: Linear) -> bool:
    """Whether two layers of that sort work on the same axes, and slide over their input alike."""
    if not is_joinable(b) or (a.geometry is None) != (b.geometry is None):
        return False
    if a.geometry is None or b.geometry is None:
        return _matrix(a) == _matrix(b)
    slides = _slide(a), _slide(b)
    alike = (_convolution(a), slides[0].margin) == (_convolution(b), slides[1].margin)
    return alike and common_steps(*slides) is not None


def takes_single_channels(kind: Linear) -> bool:
    """Whether a map of single channels beside ``kind`` has an output of the same form."""
    if kind.layout.inputs != kind.layout.outputs or kind.rank is None:
        return False
    if kind.geometry is None:
        return kind.in_axis == kind.out_axis
    slide, none = _slide(kind), (0,) * len(kind.geometry.strides)
    one_tap = Slide((1,) * len(none), none, none, (1,) * len(none))
    if set(kind.geometry.strides) > {1} or any(slide.margin):
        return False
    return common_steps(slide, one_tap) is not None


def single_channels(scale: Array, shift: Array, like: Linear) -> tuple[Linear, LinearState]:
    """``x -> scale * x + shift`` (vectors over the channels of ``like``) as a layer beside it."""
    channels, groups = like.layout.outputs, 1 if like.geometry is None else like.geometry.groups
    spatial = len(like.layout.shape) - 2
    weight = np.zeros((channels, channels // groups, *(1,) * spatial))
    index = np.arange(channels)
    weight.reshape(channels, -1)[index, index % (channels // groups)] = scale
    ones, zeros = (1,) * spatial, (0,) * spatial
    convolution = like.geometry is not None
    kind = replace(
        like,
        layout=WeightLayout.conv(weight.shape, groups) if convolution else like.layout,
        weight=_computed("identity", weight, like.weight.dtype),
        bias=_computed("shift", shift, like.weight.dtype),
        geometry=Geometry(groups, ones, ones, zeros, zeros) if convolution else None,
        weight_factor=1.0,
        bias_factor=1.0,
    )
    return kind, LinearState(bias=shift.reshape(-1, *[1] * (-1 - like.bias_axis)))


def joined(a: Linear, state_a: LinearState, b: Linear, state_b: LinearState, sign: float) -> Linear:
    """The layer ``a + sign * b``. Its weight and bias are float64, its type that of ``a``."""
    ours, theirs = _effective(a, state_a), sign * _effective(b, state_b)
    pairs = ((state_a.bias, 1), (state_b.bias, sign))
    biases = [factor * bias for bias, factor in pairs if bias is not None]
    bias = _computed("bias", reduce(np.add, biases), a.weight.dtype) if biases else None
    if a.geometry is None:
        weight = _computed(a.weight.name, (ours + theirs) / a.weight_factor, a.weight.dtype)
        return replace(a, weight=weight, bias=bias, bias_factor=1.0)
    slide, total = overlaid(_slide(a), ours, _slide(b), theirs)
    return replace(
        a,
        layout=WeightLayout.conv(total.shape, a.geometry.groups),
        weight=_computed(a.weight.name, total, a.weight.dtype),
        bias=bias,
        every_tap_everywhere=not any(slide.begin + slide.end),
        geometry=replace(
            a.geometry, dilations=slide.steps, pads_begin=slide.begin, pads_end=slide.end
        ),
        weight_factor=1.0,
        bias_factor=1.0,
    )


def _matrix(kind: Linear) -> tuple[Any, ...]:
    """What two matrix products must have in common."""
    axes = kind.in_axis, kind.out_axis, kind.bias_axis, kind.rank
    return kind.layout, kind.weight.dtype, axes


def _convolution(kind: Linear) -> tuple[Any, ...]:
    """What two convolutions must have in common."""
    assert kind.geometry is not None
    slides = kind.geometry.strides, kind.geometry.groups
    return slides, kind.weight.dtype, kind.layout.shape[:2]


def _slide(kind: Linear) -> Slide:
    g = kind.geometry
    assert g is not None
    return Slide(kind.layout.shape[2:], g.pads_begin, g.pads_end, g.dilations)


def _effective(kind: Linear, state: LinearState) -> Array:
    """The weight with all that the node has absorbed."""
    scaled = kind.layout.scaled(kind.weight.load(), state.out_scale, state.in_scale)
    return kind.weight_factor * scaled


def _computed(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> Constant:
    return Constant(name, array.shape, dtype, lambda: array)
