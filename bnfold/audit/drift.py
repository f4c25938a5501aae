"""Drift: how far the values that reach a BatchNorm now lie from those it was trained on.

Both are taken as Gaussians per channel, the stored one with its epsilon, as the layer itself does.
The measures are per channel; a layer's own is the root mean square over its live channels, so that
one channel cannot decide and a thousand cannot hide behind each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.kinds import Norm

PERCENTILES = (15.0, 50.0, 85.0)


@dataclass(frozen=True, eq=False)
class Observed:
    """What reached one BatchNorm on a data sample, before it normalises.

    ``mean`` and ``variance`` (population) have shape ``(channels,)``, float64; ``count`` is the
    number of values per channel, from ``samples`` samples (None: unknown). ``percentiles``, shape
    ``(3, channels)``, are the 15th, 50th and 85th: the three lines of Figure 1 in Ioffe & Szegedy,
    ICML 2015.
    """

    mean: Array
    variance: Array
    count: int
    percentiles: Array | None = None
    samples: int | None = None


Observations = Mapping[str, Observed]


@dataclass(frozen=True, eq=False)
class Drift:
    """Stored against observed, one number per channel.

    ``mean_shift``: (observed mean - stored mean) in stored standard deviations. ``variance_ratio``:
    observed over stored, epsilon added to both. ``divergence``: Jeffreys, in nats. ``live`` marks
    the channels that count: a dead one has no scale to measure in.
    """

    mean_shift: Array
    variance_ratio: Array
    divergence: Array
    live: np.ndarray[tuple[int], np.dtype[np.bool_]]
    count: int

    @classmethod
    def of(cls, norm: Norm, observed: Observed, dead_below: float = 0.0) -> Drift:
        """The drift of one layer; a variance of ``dead_below`` is that of a dead channel."""
        epsilon = norm.epsilon or 0.0
        stored, now = norm.variance + epsilon, observed.variance + epsilon
        with np.errstate(all="ignore"):
            shift = (observed.mean - norm.mean) / np.sqrt(stored)
            ratio = now / stored
            divergence = jeffreys(observed.mean - norm.mean, stored, now)
        measured = np.isfinite(divergence) & (ratio > 0)
        live = measured & ((norm.variance > dead_below) | (observed.variance > epsilon))
        return cls(shift, ratio, divergence, live, observed.count)

    @property
    def mean_rms(self) -> float:
        return _rms(self.mean_shift[self.live])

    @property
    def variance_factor(self) -> float:
        """How many times the variances differ, whichever is larger: at least 1."""
        return float(np.exp(_rms(np.log(self.variance_ratio[self.live]))))

    @property
    def variance_direction(self) -> float:
        """The geometric mean of the ratios: above 1 where the data varies more than it did."""
        logs = np.log(self.variance_ratio[self.live])
        return float(np.exp(logs.mean())) if logs.size else 1.0

    @property
    def layer_divergence(self) -> float:
        """The median over channels, in nats."""
        live = self.divergence[self.live]
        return float(np.median(live)) if live.size else 0.0

    def to_json(self) -> dict[str, Any]:
        """The layer's own measures."""
        return {
            "values_per_channel": self.count,
            "live_channels": int(self.live.sum()),
            "mean_shift": self.mean_rms,
            "variance_factor": self.variance_factor,
            "divergence": self.layer_divergence,
        }


def jeffreys(difference: Array, variance: Array, other: Array) -> Array:
    """Jeffreys divergence of two Gaussians: both Kullback-Leibler divergences added, in nats.

    Args:
        difference: of their means.
        variance: of one, positive.
        other: of the other, positive.
    """
    result: Array = 0.5 * (
        variance / other + other / variance - 2 + difference**2 * (1 / variance + 1 / other)
    )
    return result


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0
