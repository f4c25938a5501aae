"""Layers whose weight is quantised: the stored integers, scales and zero points that a fold gives them.

Runtimes with integer kernels take one scale for each output channel. onnxruntime 1.32 runs a convolution
whose scales vary along the input channels as if they varied along the outputs: no such weight is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.algebra.quantisation import Clash, Grid, Misfit, latent, limits, multiplied
from bnfold.constants import Constant, Quantised
from bnfold.graph import Node
from bnfold.kinds import Linear
from bnfold.planning.decision import Requantise, Reweight
from bnfold.planning.reasons import Reason, Refused, channels


def grid_of(stored: Quantised) -> Grid:
    """The stored parts, loaded."""
    integers = np.asarray(stored.integers.load())
    scale = np.asarray(stored.scale.load())
    without = np.zeros(() if stored.block is None else scale.shape, integers.dtype)
    zero = without if stored.zero is None else np.asarray(stored.zero.load())
    if stored.axis is None:
        scale, zero = scale.reshape(()), zero.reshape(())
    return Grid(integers, scale, zero, stored.axis, stored.block)


def rescaled(node: Node, kind: Linear, out_scale: Array | None, in_scale: Array | None) -> Grid:
    """The quantised weight of ``node`` with its channels multiplied.

    Raises:
        Refused: where no integers of its type hold that.
    """
    stored = kind.weight.quantised
    assert stored is not None
    if not stored.splits:
        raise Refused(Reason.QUANTIZED_PER_TENSOR, node.label)
    grid, factors = grid_of(stored), _factors(kind, stored, out_scale, in_scale)
    try:
        return multiplied(grid, factors, _output_axis(kind, stored))
    except Misfit as misfit:
        if misfit.clash is Clash.RANGE:
            told = _told(grid, misfit, kind.layout.outputs)
            raise Refused(Reason.QUANTIZED_RANGE, node.label, told) from None
        scale = misfit.clash is Clash.SCALE
        reason = Reason.UNDERFLOW if scale else Reason.QUANTIZED_INPUTS
        raise Refused(reason, node.label) from None


def edits(
    node: Node, kind: Linear, out_scale: Array | None, in_scale: Array | None, bias: Array | None
) -> Iterator[Reweight | Requantise]:
    """What gives a layer with a quantised weight its new parameters.

    Args:
        node: the layer.
        kind: what it is.
        out_scale: factors of its output channels.
        in_scale: factors of its input channels.
        bias: the new effective one, None where there is none.
    """
    stored = kind.weight.quantised
    assert stored is not None
    grid = grid_of(stored)
    if out_scale is not None or in_scale is not None:
        grid = rescaled(node, kind, out_scale, in_scale)
        yield _weight_edit(node, kind, stored, out_scale, in_scale)
    if bias is None:
        return
    accumulated = None if kind.bias is None else _in_steps(kind.bias, bias, grid, out_scale)
    if kind.bias is not None and accumulated is not None:
        yield Requantise(
            node, kind.bias, accumulated.scale, None, accumulated.axis, lambda: accumulated.integers
        )
    else:
        yield Reweight(node, kind, None, None, bias, True)


def _weight_edit(
    node: Node, kind: Linear, stored: Quantised, out_scale: Array | None, in_scale: Array | None
) -> Requantise:
    """Integers are computed when they are asked for, so that few are held at once."""

    def new() -> Grid:
        return rescaled(node, kind, out_scale, in_scale)

    def floats() -> NDArray[Any]:
        assert stored.latent is not None
        factors = _factors(kind, stored, out_scale, in_scale)
        return latent(new(), np.asarray(stored.latent.load()), factors)

    grid, old = new(), grid_of(stored)
    zero = None if _same(grid.zero, old.zero) else grid.zero
    integers = None if _same(grid.integers, old.integers) else lambda: new().integers
    return Requantise(
        node,
        kind.weight,
        grid.scale,
        zero,
        None if grid.block is not None else grid.axis,
        integers if stored.latent is None else None,
        None if stored.latent is None else floats,
    )


def _in_steps(bias: Constant, wanted: Array, weight: Grid, out_scale: Array | None) -> Grid | None:
    """A bias in steps of what its layer adds up, the input's scale times the weight's.

    None where the file does not keep it so, where its type does not hold it, and where a channel is
    dead: there the norm would make nothing of half a step, and its constant would be off by that.

    Args:
        bias: of the layer, as it is.
        wanted: what it is to be.
        weight: the new one.
        out_scale: the factors of its output channels.
    """
    stored = bias.quantised
    if stored is None or stored.input_scale is None or weight.block is not None:
        return None
    step = np.asarray(stored.input_scale * weight.scale.astype(np.float64))
    scale = step.astype(stored.scale.dtype)
    low, high = limits(stored.integers.dtype)
    factors = 1.0 if out_scale is None else np.abs(out_scale)
    due = stored.scale.float64() * factors
    if not np.allclose(scale, due, rtol=1e-3, atol=0) or not (scale > 0).all():
        return None
    integers = np.rint(wanted.reshape(-1) / scale.astype(np.float64))
    if (integers < low).any() or (integers > high).any():
        return None
    axis = None if scale.ndim == 0 else 0
    if axis is None and stored.axis is not None:
        scale, axis = np.broadcast_to(scale, wanted.reshape(-1).shape), 0
    typed = integers.astype(stored.integers.dtype)
    return Grid(typed, scale, np.zeros((), typed.dtype), axis)


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def _factors(
    kind: Linear, stored: Quantised, out_scale: Array | None, in_scale: Array | None
) -> Array:
    """The factors along the axes of the stored integers."""
    factors = kind.layout.factors(out_scale, in_scale)
    return np.transpose(factors, np.argsort(stored.order))


def _output_axis(kind: Linear, stored: Quantised) -> int | None:
    """Which axis of the integers holds the output channels; None where that is no single one."""
    joined = len(kind.layout.split) - len(kind.layout.shape)
    axes = {max(0, axis - joined) for axis in kind.layout.out_axes if kind.layout.split[axis] > 1}
    if len(axes) > 1:
        return None
    return stored.order[axes.pop() if axes else 0]


def _told(grid: Grid, misfit: Misfit, outputs: int) -> str:
    low, high = limits(grid.integers.dtype)
    count = 1 if grid.scale.ndim == 0 else grid.scale.size if grid.block is None else outputs
    count = max(count, len(misfit.where), *(i + 1 for i in misfit.where))
    ends = low if low < 0 else f"{low} or {high}"
    return channels(list(misfit.where), count, f"channels with a negative scale hold {ends}")
