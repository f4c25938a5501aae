"""What recalibration moved, layer by layer: new statistics in the measure of the stored ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from bnfold.algebra.affine import Array
from bnfold.recalibration.statistics_change import NormChange
from bnfold.reports.html.channels import Channels
from bnfold.reports.html.plot import Axis, Line, Plot

_PERCENTILES = (0.0, 15.0, 50.0, 85.0, 100.0)


def mean_chart(changes: Sequence[NormChange]) -> Markup:
    """Where the new means lie in the stored distributions: 0 is where they were."""
    rows = np.array([_percentiles(_shifts(c)) for c in changes]).T
    axis = Axis.over(rows, np.array([-0.25, 0.25]))
    return _chart("Shift of the means in stored standard deviations", rows, axis, changes, 0.0, "σ")


def variance_chart(changes: Sequence[NormChange]) -> Markup:
    """The new variances over the stored ones: 1 is where they were."""
    rows = np.array([_percentiles(_ratios(c)) for c in changes]).T
    axis = Axis.logarithmic(rows, np.array([0.5, 2.0]))
    return _chart("New variances over stored ones, logarithmic", rows, axis, changes, 1.0, "×")


def channels_of(changes: Sequence[NormChange]) -> list[Channels]:
    """What the charts of each layer are drawn from: stored and new."""
    return [
        Channels((c.old.mean, c.old.variance), (c.new.mean, c.new.variance), c.epsilon)
        for c in changes
    ]


def _chart(
    title: str, rows: Array, axis: Axis, changes: Sequence[NormChange], still: float, unit: str
) -> Markup:
    tips = [_tip(i, c, row, unit) for i, (c, row) in enumerate(zip(changes, rows.T, strict=True))]
    words = f"{title}: smallest, 15th, 50th and 85th percentile, and largest, of the channels of each layer"
    plot = Plot(words, axis, tips, [Line(still, "as stored", "still")], "×" * (unit == "×"))
    return plot.draw(
        plot.spans(rows[0], rows[4], "whisker"),
        plot.spans(rows[1], rows[3], "box"),
        plot.dots(rows[2], "median"),
    )


def _tip(index: int, change: NormChange, row: Array, unit: str) -> str:
    low, middle, high = (f"{v:.2g}{unit}" if unit == "σ" else f"×{v:.2g}" for v in row[[0, 2, 4]])
    return f"{index + 1}: {change.name}: {low} … {high}, median {middle}"


def _percentiles(values: Array) -> Array:
    finite = values[np.isfinite(values)]
    return np.percentile(finite, _PERCENTILES) if finite.size else np.full(5, np.nan)


def _shifts(change: NormChange) -> Array:
    with np.errstate(all="ignore"):  # old statistics may be anything, that is why one is here
        deviation = np.sqrt(np.abs(change.old.variance) + change.epsilon)
        return np.asarray((change.new.mean - change.old.mean) / deviation)


def _ratios(change: NormChange) -> Array:
    with np.errstate(all="ignore"):
        stored = np.abs(change.old.variance) + change.epsilon
        return np.asarray((change.new.variance + change.epsilon) / stored)
