"""Small charts as inline SVG: no library, no network, colours from the page's style sheet."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np
from markupsafe import Markup, escape

from bnfold.algebra.affine import Array

# A page with 500 layers stays small: no chart draws more channels than this.
_MOST_POINTS = 72
_LEFT, _TOP, _BOTTOM = 40, 8, 8
# A Gaussian holds 70 % of its values within this many deviations: between the 15th and 85th percentile.
_SIGMAS = 1.036


@dataclass(frozen=True)
class Series:
    """One line or set of dots over the channels; ``style`` is a class of the style sheet."""

    values: Array
    style: str
    dots: bool = False


@dataclass(frozen=True)
class _Axis:
    """From values to the height of a chart, linear or logarithmic."""

    low: float
    high: float
    log: bool
    height: int

    @classmethod
    def over(cls, arrays: list[Array], height: int) -> _Axis:
        values = np.concatenate([a[np.isfinite(a)] for a in arrays])
        if not values.size:
            return cls(0.0, 1.0, False, height)
        low, high = float(values.min()), float(values.max())
        if high == low:
            pad = abs(high) * 0.5 or 1.0
            return cls(low - pad, high + pad, False, height)
        return cls(low, high, False, height)

    @classmethod
    def for_variances(cls, arrays: list[Array], height: int) -> _Axis:
        """Logarithmic where they span more than a decade; what is denormal lies on the floor."""
        values = np.concatenate([a[np.isfinite(a) & (a > 0)] for a in arrays])
        if not values.size or values.max() < 10 * values.min():
            return cls.over(arrays, height)
        high = float(values.max())
        return cls(log10(max(float(values.min()), high * 1e-9)), log10(high), True, height)

    def y(self, values: Array) -> Array:
        if self.log:
            values = np.log10(np.maximum(values, 10.0**self.low))
        share = (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low)
        return np.asarray(self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM))

    def ticks(self) -> list[float]:
        if self.log:
            first, last = ceil(self.low), floor(self.high)
            step = max(1, (last - first + 2) // 3)
            return [10.0**e for e in range(first, last + 1, step)]
        step = 10 ** floor(log10(self.high - self.low))
        span = self.high - self.low
        step = next(step * k for k in (0.5, 1, 2, 5) if span / (step * k) <= 4)
        return [k * step for k in range(ceil(self.low / step), floor(self.high / step) + 1)]


def profile(
    title: str, stored: Array, observed: Array | None = None, *, variance: bool = False
) -> Markup:
    """All channels of a layer, from the smallest stored value to the largest.

    Args:
        title: what is drawn.
        stored: shape ``(channels,)``; a line.
        observed: the same channels as the data has them; dots, beside their line where they agree.
        variance: draw on a logarithmic axis where that shows more.
    """
    order = _picked(stored, observed)
    arrays = [stored] if observed is None else [stored, observed]
    make = _Axis.for_variances if variance else _Axis.over
    axis = make(arrays, 110)
    series = [Series(stored[order], "stored")]
    if observed is not None:
        series.append(Series(observed[order], "observed", dots=True))
    scale = ", logarithmic" if axis.log else ""
    return _svg(title, _in_words(title, stored, observed) + scale, axis, series, 260)


def percentile_band(percentiles: Array, mean: Array, deviation: Array) -> Markup:
    """The 15th, 50th and 85th percentile of what reaches the layer, over the stored Gaussian.

    As in Figure 1 of Ioffe & Szegedy, ICML 2015, with channels along the axis instead of training
    steps: where the data is as the layer expects it, the two bands lie on each other.
    """
    order = _picked(mean, percentiles[1])
    low, middle, high = (row[order] for row in percentiles)
    with np.errstate(all="ignore"):  # broken statistics are drawn as far as they go
        expected = (mean - _SIGMAS * deviation)[order], (mean + _SIGMAS * deviation)[order]
    # One dead or loud channel must not flatten the others: the axis spans what most of them need.
    spread = np.concatenate([low, high, *expected])
    spread = spread[np.isfinite(spread)]
    limits = np.percentile(spread, [2, 98]) if spread.size else np.array([0.0, 1.0])
    axis = _Axis.over([np.asarray(limits)], 150)
    title = "What reaches the layer"
    words = "15th, 50th and 85th percentile of each channel, over the stored mean and deviation"
    bands = _band(*expected, axis, 540, "expected") + _band(low, high, axis, 540, "seen")
    lines = [Series(mean[order], "stored"), Series(middle, "observed")]
    return _svg(title, words, axis, lines, 540, bands)


def _picked(stored: Array, observed: Array | None) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Channels in the order of their stored value, thinned out; both ends and the strays stay."""
    order = np.argsort(np.nan_to_num(stored), kind="stable")
    if order.size <= _MOST_POINTS:
        return order
    places = np.linspace(0, order.size - 1, _MOST_POINTS - 8).astype(np.int64)
    if observed is not None:
        with np.errstate(all="ignore"):
            distance = np.nan_to_num(np.abs(observed - stored))
        strays = np.argsort(-distance[order])[:8]
        places = np.unique(np.concatenate([places, strays]))
    return np.asarray(order[places])


def _svg(
    title: str, words: str, axis: _Axis, series: list[Series], width: int, under: str = ""
) -> Markup:
    parts = [_grid(axis, width), under]
    parts += [_dots(s, axis, width) if s.dots else _line(s, axis, width) for s in series]
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {axis.height}" role="img" '
        f'aria-label="{escape(title)}: {escape(words)}">{"".join(parts)}</svg>'
    )


def _grid(axis: _Axis, width: int) -> str:
    lines = []
    for tick in axis.ticks():
        y = float(axis.y(np.array([tick]))[0])
        text = f"{tick:.0e}".replace("e-0", "e-").replace("e+0", "e") if axis.log else f"{tick:.4g}"
        zero = " zero" if tick == 0 else ""
        lines.append(
            f'<path class="grid{zero}" d="M{_LEFT} {y:.1f}H{width - 2}"/>'
            f'<text x="{_LEFT - 5}" y="{y + 3:.1f}">{text}</text>'
        )
    return "".join(lines)


def _xs(count: int, width: int) -> Array:
    if count == 1:
        return np.array([(_LEFT + width) / 2.0])
    return np.linspace(_LEFT + 3, width - 5, count)


def _line(series: Series, axis: _Axis, width: int) -> str:
    points = _points(series.values, axis, width)
    if len(points) == 1:
        return f'<circle class="{series.style}-dot" r="3" cx="{points[0][0]}" cy="{points[0][1]}"/>'
    path = "L".join(f"{x} {y}" for x, y in points)
    return f'<path class="{series.style}" d="M{path}"/>' if points else ""


def _dots(series: Series, axis: _Axis, width: int) -> str:
    """Dots as one path of round caps: a fifth of the size of as many circles."""
    path = "".join(f"M{x} {y}h0" for x, y in _points(series.values, axis, width))
    return f'<path class="{series.style} dots" d="{path}"/>'


def _band(low: Array, high: Array, axis: _Axis, width: int, style: str) -> str:
    if len(low) == 1:
        low, high = np.repeat(low, 2), np.repeat(high, 2)
    there = _points(high, axis, width)
    back = _points(low, axis, width)[::-1]
    path = "L".join(f"{x} {y}" for x, y in there + back)
    return f'<path class="band {style}" d="M{path}Z"/>' if there else ""


def _points(values: Array, axis: _Axis, width: int) -> list[tuple[str, str]]:
    xs, ys = _xs(len(values), width), axis.y(values)
    return [
        (f"{x:.1f}", f"{y:.1f}") for x, y, v in zip(xs, ys, values, strict=True) if np.isfinite(v)
    ]


def _in_words(title: str, stored: Array, observed: Array | None) -> str:
    words = f"{stored.size} channels, stored {_span(stored)}"
    return words if observed is None else f"{words}, observed {_span(observed)}"


def _span(values: Array) -> str:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "not finite"
    lost = values.size - finite.size
    broken = f" ({lost} not finite)" if lost else ""
    return f"{finite.min():.3g} to {finite.max():.3g}, median {np.median(finite):.3g}{broken}"
