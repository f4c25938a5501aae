"""The network in one picture: a bar for each BatchNorm, as high as its trouble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from bnfold.audit import Drift, Severity
from bnfold.audit.thresholds import Thresholds
from bnfold.jobs import Inspection
from bnfold.reports.html.plot import Axis, Line

_MOST, _LEAST_TOP, _CALM = 6.0, 2.5, 0.04
_SEVERITIES = {Severity.ERROR: 3.0, Severity.WARNING: 2.0, Severity.INFO: 1.0}


@dataclass(frozen=True)
class Strip:
    """How high each bar is (per cent), and the lines behind them. ``unseen``: nothing to compare."""

    heights: Sequence[int]
    unseen: Sequence[bool]
    lines: Sequence[tuple[int, Line]]
    words: str


def strip_of(result: Inspection, worst: Sequence[Severity | None]) -> Strip:
    """By drift where there is data, else by the worst finding of each layer."""
    drifts = [report.drift for report in result.batch_norms]
    if not any(drifts):
        return _by_severity(worst)
    levels = [level(d, result.thresholds) if d else 0.0 for d in drifts]
    top = min(_MOST, max(_LEAST_TOP, *levels))
    t = result.thresholds
    lines = [
        Line(1, f"{t.mean_warning:g}σ or ×{t.variance_warning:g}", "warning"),
        Line(2, f"{t.mean_error:g}σ or ×{t.variance_error:g}", "error"),
    ]
    if max(levels) >= _MOST:
        lines.append(Line(_MOST, "this and more", "error"))
    words = (
        "how far the data lies from the stored statistics: the shift of the mean in standard deviations "
        "(σ) or the factor between the variances (×), whichever is nearer to its threshold"
    )
    return _strip(levels, top, [d is None for d in drifts], lines, words)


def level(drift: Drift, limits: Thresholds) -> float:
    """0 is no drift, 1 the threshold of a warning, 2 that of an error."""
    mean = _level(drift.mean_rms, limits.mean_warning, limits.mean_error)
    factors = (
        max(1.0, f) for f in (drift.variance_factor, limits.variance_warning, limits.variance_error)
    )
    return max(mean, _level(*map(log, factors)))


def _level(size: float, warning: float, error: float) -> float:
    if size <= warning or error <= warning:
        return min(_MOST, size / warning) if warning > 0 else _MOST
    return min(_MOST, 1.0 + (size - warning) / (error - warning))


def _by_severity(worst: Sequence[Severity | None]) -> Strip:
    levels = [0.0 if severity is None else _SEVERITIES[severity] for severity in worst]
    lines = [Line(1, "note", "note"), Line(2, "warning", "warning"), Line(3, "error", "error")]
    return _strip(
        levels, 3.3, [False] * len(levels), lines, "the worst that was found in the layer"
    )


def _strip(
    levels: Sequence[float], top: float, unseen: Sequence[bool], lines: Sequence[Line], words: str
) -> Strip:
    axis = Axis(0.0, top)
    return Strip(
        [
            100 if u else _percent(max(v, _CALM * top), axis)
            for v, u in zip(levels, unseen, strict=True)
        ],
        unseen,
        [(_percent(line.value, axis), line) for line in lines],
        words,
    )


def _percent(value: float, axis: Axis) -> int:
    return round(100 * min(1.0, value / axis.high))
