"""A user's own bound on how far two models may be apart, for an int8 or half-precision candidate.

Its error is far above the rounding noise of the reference, by which all else is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
METRICS = ("max", "sqnr", "cosine", "class")


@dataclass(frozen=True)
class Measured:
    """What a metric gave, and what was asked for. ``unit`` is for reports."""

    metric: str
    value: float
    threshold: float
    passed: bool

    def to_json(self) -> dict[str, Any]:
        finite = np.isfinite(self.value)
        return {
            "metric": self.metric,
            "value": float(self.value) if finite else None,
            "threshold": self.threshold,
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Bounds:
    """What an output has to keep to.

    ``rtol`` and ``atol``: every element within ``atol + rtol * |reference|``. ``metric`` with
    ``thresholds`` by output name (the empty name: all others): ``max``, the largest absolute error
    at most; ``sqnr``, the signal-to-quantisation-noise ratio in decibels at least; ``cosine``, the
    cosine similarity at least; ``class``, the share of rows with the same largest entry at least.
    """

    rtol: float | None = None
    atol: float | None = None
    metric: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_given(self) -> bool:
        """Whether there is any bound."""
        return self.rtol is not None or self.atol is not None or self.metric is not None

    def unknown(self, outputs: Collection[str]) -> str | None:
        """An output that a threshold names and that is not among ``outputs``."""
        return next((name for name in self.thresholds if name and name not in outputs), None)

    def judge(
        self, name: str, references: Sequence[Array], candidates: Sequence[Array]
    ) -> tuple[Measured, ...]:
        """Every bound on one output, over several inputs; none where none speaks of it."""
        pairs = [
            (r.astype(np.float64), c.astype(np.float64))
            for r, c in zip(references, candidates, strict=True)
        ]
        found = []
        if self.rtol is not None or self.atol is not None:
            found.append(self._within_tolerance(pairs))
        threshold = self.thresholds.get(name, self.thresholds.get(""))
        if self.metric is not None and threshold is not None:
            value = _MEASURES[self.metric](pairs)
            passed = value <= threshold if self.metric == "max" else value >= threshold
            found.append(Measured(self.metric, value, threshold, bool(passed)))
        return tuple(found)

    def _within_tolerance(self, pairs: Sequence[tuple[Array, Array]]) -> Measured:
        """The largest excess over the tolerance, 0 where there is none."""
        rtol, atol = self.rtol or 0.0, self.atol or 0.0
        excess = max(
            (float(np.max(_error(r, c) - atol - rtol * np.abs(r), initial=0.0)) for r, c in pairs),
            default=np.inf,
        )
        return Measured("tolerance", excess, 0.0, excess <= 0)


def _error(reference: Array, candidate: Array) -> Array:
    """The absolute error, infinite where NaN or an infinity stands in one of both only."""
    with np.errstate(all="ignore"):
        same = (reference == candidate) | (np.isnan(reference) & np.isnan(candidate))
        error = np.abs(reference - candidate)
    return np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf))


def _largest(pairs: Sequence[tuple[Array, Array]]) -> float:
    return max((float(np.max(_error(r, c), initial=0.0)) for r, c in pairs), default=np.inf)


def _sqnr(pairs: Sequence[tuple[Array, Array]]) -> float:
    signal = sum(float(np.square(r).sum()) for r, _ in pairs)
    noise = sum(float(np.square(_error(r, c)).sum()) for r, c in pairs)
    if noise == 0:
        return float(np.inf)
    if not (np.isfinite(noise) and 0 < signal < np.inf):
        return float(-np.inf)
    return 10 * float(np.log10(signal / noise))


def _cosine(pairs: Sequence[tuple[Array, Array]]) -> float:
    with np.errstate(all="ignore"):
        dot = sum(float((r * c).sum()) for r, c in pairs)
    squares = [sum(float(np.square(x).sum()) for x in side) for side in zip(*pairs, strict=True)]
    if not np.isfinite([dot, *squares]).all():
        return float(-np.inf)
    length = float(np.sqrt(squares[0] * squares[1]))
    return dot / length if length > 0 else float(squares[0] == squares[1])


def _same_class(pairs: Sequence[tuple[Array, Array]]) -> float:
    rows = [
        r.reshape(-1, r.shape[-1]).argmax(1) == c.reshape(-1, c.shape[-1]).argmax(1)
        for r, c in pairs
        if r.ndim and r.size
    ]
    return float(np.concatenate(rows).mean()) if rows else 0.0


_MEASURES: dict[str, Callable[[Sequence[tuple[Array, Array]]], float]] = {
    "max": _largest,
    "sqnr": _sqnr,
    "cosine": _cosine,
    "class": _same_class,
}
