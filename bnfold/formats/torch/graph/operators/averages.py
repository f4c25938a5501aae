"""Averages over space: pools and means."""

from __future__ import annotations

from collections.abc import Callable

from bnfold.formats.torch.graph.operators.view import CallView, Reading
from bnfold.kinds import Average

Axes = tuple[int | None, ...]


def pool(spatial: int) -> Callable[[CallView], Reading]:
    """A pool over the last ``spatial`` axes of a batched or single input."""

    def read(view: CallView) -> Reading:
        steps = (view.ints("stride") or view.ints("kernel_size") or []) if _slides(view) else []
        average = Average(pooled_axes(view, spatial), period=max([4, *steps]))
        return Reading(average, (view.flow("self"),))

    return read


def _slides(view: CallView) -> bool:
    return "kernel_size" in view.arguments


def read_mean(view: CallView) -> Reading | None:
    result = view.result
    if result is None or view.fake("self").dtype != result.dtype:
        return None
    axes = reduced_axes(view)
    return None if axes is None else Reading(Average(axes), (view.flow("self"),))


def pooled_axes(view: CallView, spatial: int) -> Axes:
    return (*range(view.fake("self").ndim - spatial), *[None] * spatial)


def reduced_axes(view: CallView) -> Axes | None:
    """Which input axis each output axis of a reduction carries; None where unknown."""
    rank = view.fake("self").ndim
    found = view.get("dim")
    dims = found if isinstance(found, list | tuple) else [] if found is None else [found]
    if any(not isinstance(dim, int) for dim in dims):
        return None
    gone = {dim % rank for dim in dims} if dims else set(range(rank))
    if view.get("keepdim", False):
        return tuple(None if axis in gone else axis for axis in range(rank))
    return tuple(axis for axis in range(rank) if axis not in gone)


READERS = {
    **{f"avg_pool{n}d": pool(n) for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": pool(n) for n in (1, 2, 3)},
    **{f"_adaptive_avg_pool{n}d": pool(n) for n in (2, 3)},
    "mean": read_mean,
    "sum": read_mean,  # of ones there come more than one: a scale passes
}
