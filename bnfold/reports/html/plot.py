"""Charts over a row of things (layers, pieces): drawn here, so that they need no script.

The drawing is stretched to the width that there is; text stands beside it as HTML and keeps its size.
``page.js`` adds a cursor, tooltips and the arrow keys.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np
from markupsafe import Markup, escape

from bnfold.algebra.affine import Array
from bnfold.showable import showable

_WIDTH, _HEIGHT = 1000.0, 100.0


@dataclass(frozen=True)
class Axis:
    """From values to a share of the height, linear or logarithmic (then the ends are exponents)."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def over(cls, *arrays: Array) -> Axis:
        """Linear, as wide as the finite values are."""
        low, high = _ends(np.concatenate([np.ravel(a) for a in arrays]))
        if high == low:
            pad = abs(high) * 0.5 or 1.0
            return cls(low - pad, high + pad)
        return cls(low, high)

    @classmethod
    def logarithmic(cls, *arrays: Array) -> Axis:
        """Whole decades around the positive finite values."""
        values = np.concatenate([np.ravel(a) for a in arrays])
        low, high = _ends(values[values > 0])
        first, last = floor(log10(low)) if low > 0 else 0, ceil(log10(high)) if high > 0 else 1
        return cls(first, max(last, first + 1), True)

    def share(self, values: Array) -> Array:
        """0 at the lower end, 1 at the upper; what lies outside is drawn at the edge."""
        values = np.asarray(values, np.float64)
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.log10(values)
        return np.asarray(
            (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low)
        )

    def ticks(self) -> list[tuple[float, str]]:
        """A few round values, each with its text."""
        if self.log:
            step = max(1, ceil((self.high - self.low) / 4))
            exponents = range(int(self.low), int(self.high) + 1, step)
            return [(10.0**e, _power(e)) for e in exponents]
        step = 10 ** floor(log10(self.high - self.low))
        span = self.high - self.low
        step = next(step * k for k in (0.5, 1, 2, 5) if span / (step * k) <= 4)
        places = range(ceil(self.low / step), floor(self.high / step) + 1)
        return [(k * step, f"{k * step:.4g}") for k in places]


def _ends(values: Array) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _power(exponent: int) -> str:
    return f"{10**exponent:g}" if -3 < exponent < 4 else f"1e{exponent}"


@dataclass(frozen=True)
class Line:
    """A horizontal line with a meaning: a threshold, or where nothing has changed."""

    value: float
    text: str
    style: str = ""


@dataclass(frozen=True)
class Plot:
    """One chart: everything is given per thing, in the order of the network.

    Args:
        words: what a screen reader says of it.
        axis: of the values.
        tips: what the tooltip says of each thing.
        lines: thresholds.
        prefix: stands before the round values of the axis.
    """

    words: str
    axis: Axis
    tips: Sequence[str]
    lines: Sequence[Line] = ()
    prefix: str = ""

    def draw(self, *marks: str) -> Markup:
        """The chart with ``marks``, as `spans` and `dots` make them."""
        labels = [(y, f"{self.prefix}{text}", "") for y, text in self.axis.ticks()]
        labels = _apart(self.axis, [(e.value, e.text, e.style) for e in self.lines], labels)
        grid = "".join(_grid(self._y(y), style) for y, _, style in labels)
        texts = "".join(_label(self._y(y), text, style) for y, text, style in labels)
        tips = escape(json.dumps([showable(tip) for tip in self.tips], ensure_ascii=False))
        words = f'tabindex="0" role="img" aria-label="{escape(self.words)}"'
        return Markup(
            f'<div class="plot" {words} data-tips="{tips}">'
            f'<div class="ys" aria-hidden="true">{texts}</div>'
            '<svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">'
            f"{grid}{''.join(marks)}</svg>"
            f'</div><p class="xs" aria-hidden="true"><span>1</span><span>input → output</span>'
            f"<span>{len(self.tips)}</span></p>"
        )

    def spans(self, low: Array, high: Array, style: str) -> str:
        """A vertical line for each thing, from one value to another."""
        where = zip(self._xs(), self._ys(low), self._ys(high), strict=True)
        path = "".join(f"M{x:.1f} {b:.1f}V{t:.1f}" for x, b, t in where if b == b and t == t)
        width = max(2.0, min(14.0, 700.0 / max(1, len(self.tips))))
        return f'<path class="{style}" style="stroke-width:{width:.1f}px" d="{path}"/>'

    def dots(self, values: Array, style: str) -> str:
        """A dot for each thing that has a value."""
        where = zip(self._xs(), self._ys(values), strict=True)
        path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in where if y == y)
        size = 7 if len(self.tips) <= 150 else 4
        return f'<path class="{style} dots" style="stroke-width:{size}px" d="{path}"/>'

    def _xs(self) -> Array:
        count = len(self.tips)
        return np.asarray((np.arange(count) + 0.5) * (_WIDTH / max(1, count)))

    def _ys(self, values: Array) -> Array:
        return np.asarray(_HEIGHT - self.axis.share(values) * _HEIGHT)

    def _y(self, value: float) -> float:
        return float(self._ys(np.array([value]))[0])


_Label = tuple[float, str, str]


def _apart(axis: Axis, lines: list[_Label], ticks: list[_Label]) -> list[_Label]:
    """The lines, and the ticks that do not stand in their way."""
    inside = [line for line in lines if -0.001 <= _share(axis, line[0]) <= 1.001]
    free = [
        t for t in ticks if all(abs(_share(axis, t[0]) - _share(axis, e[0])) > 0.09 for e in inside)
    ]
    return inside + free


def _share(axis: Axis, value: float) -> float:
    """As `Axis.share`, but not clipped."""
    if axis.log:
        value = log10(value) if value > 0 else axis.low - 1
    return (value - axis.low) / (axis.high - axis.low)


def _grid(y: float, style: str) -> str:
    return f'<path class="grid {style}" d="M0 {y:.1f}H1000"/>'


def _label(y: float, text: str, style: str) -> str:
    return f'<span class="{style}" style="top:{y:.1f}%">{escape(text)}</span>'
