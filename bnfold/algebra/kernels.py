"""Convolution kernels by the positions of their taps, and the sum of two of them.

A convolution reads, for output ``o`` of one axis, the input at ``o * stride - begin + j * step`` for
each tap ``j``. Kernels with equal strides that read at commensurable positions add up tap by tap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnfold.algebra.affine import Array


@dataclass(frozen=True, eq=False)
class Slide:
    """How a kernel of ``taps`` slides: padding before and behind, distance between taps, per axis."""

    taps: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    steps: tuple[int, ...]

    @property
    def margin(self) -> tuple[int, ...]:
        """By how much the last window starts beyond the input's size: two convolutions of equal
        strides give outputs of the same size for every input where these agree."""
        axes = zip(self.begin, self.end, self.steps, self.taps, strict=True)
        return tuple(begin + end - step * (taps - 1) for begin, end, step, taps in axes)


def common_steps(a: Slide, b: Slide) -> tuple[int, ...] | None:
    """A distance between taps that serves both; a kernel of one tap has none of its own."""
    steps = []
    for axis, (taps_a, taps_b) in enumerate(zip(a.taps, b.taps, strict=True)):
        if taps_a > 1 and taps_b > 1 and a.steps[axis] != b.steps[axis]:
            return None
        step = a.steps[axis] if taps_a > 1 else b.steps[axis] if taps_b > 1 else 1
        if (a.begin[axis] - b.begin[axis]) % step:
            return None
        steps.append(step)
    return tuple(steps)


def overlaid(slide_a: Slide, a: Array, slide_b: Slide, b: Array) -> tuple[Slide, Array]:
    """The kernel that computes the sum of two.

    Args:
        slide_a: how the first slides.
        a: its weight, shape ``(O, I/groups, *taps)``, float64.
        slide_b: how the second slides, with the same margin and commensurable taps.
        b: its weight.
    """
    steps = common_steps(slide_a, slide_b)
    assert steps is not None
    assert slide_a.margin == slide_b.margin
    begin = tuple(map(max, slide_a.begin, slide_b.begin))
    places = [_places(slide, begin, steps) for slide in (slide_a, slide_b)]
    taps = tuple(max(p.stop, q.stop) for p, q in zip(*places, strict=True))
    axes = zip(slide_a.margin, begin, steps, taps, strict=True)
    end = tuple(margin - first + step * (n - 1) for margin, first, step, n in axes)
    total = np.zeros(a.shape[:2] + taps)
    for place, weight in zip(places, (a, b), strict=True):
        where = (slice(None), slice(None), *place)
        total[where] += weight
    return Slide(taps, begin, end, steps), total


def _places(slide: Slide, begin: tuple[int, ...], steps: tuple[int, ...]) -> tuple[slice, ...]:
    """Where the taps of a kernel lie in one that starts at ``begin``."""
    axes = zip(slide.taps, slide.begin, begin, steps, strict=True)
    first = [((pad - own) // step, taps) for taps, own, pad, step in axes]
    return tuple(slice(start, start + taps) for start, taps in first)
