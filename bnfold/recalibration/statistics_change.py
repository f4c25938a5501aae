"""How far recalibration moved the statistics, by layer, and whether the sample was large enough to tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.algebra.moments import Moments
from bnfold.recalibration.observer import Population, Statistics
from bnfold.recalibration.reproducible_sums import Measured

# A deviation of the mean by a tenth of a standard deviation begins to be felt in the outputs.
ENOUGH = 0.1


@dataclass(frozen=True)
class NormChange:
    """One layer. Shifts are in units of the old standard deviation, epsilon included.

    ``mean_shift`` is the largest over the channels, ``typical_shift`` the root mean square;
    ``half_moved`` is how far (root mean square) every other sample alone would have put the mean
    from where the whole sample puts it, in units of the new standard deviation. ``worst`` holds
    the old and the new mean and variance of ``worst_channel``, the one whose mean moved most.
    ``constant_channels`` counts those that have one value throughout the sample. ``old`` and ``new``
    are the statistics themselves.
    """

    name: str
    channels: int
    values: int
    mean_shift: float
    typical_shift: float
    variance_ratio: tuple[float, float]
    worst_channel: int
    worst: tuple[float, float, float, float]
    half_moved: float
    constant_channels: int
    old: Statistics = field(repr=False, compare=False)
    new: Statistics = field(repr=False, compare=False)
    epsilon: float = 0.0

    def to_json(self) -> dict[str, Any]:
        keys = ("old_mean", "new_mean", "old_variance", "new_variance")
        return {
            "name": self.name,
            "channels": self.channels,
            "values_per_channel": self.values,
            "mean_shift": _number(self.mean_shift),
            "typical_mean_shift": _number(self.typical_shift),
            "variance_ratio": {
                "min": _number(self.variance_ratio[0]),
                "max": _number(self.variance_ratio[1]),
            },
            "worst_channel": {
                "index": self.worst_channel,
                **{k: _number(v) for k, v in zip(keys, self.worst, strict=True)},
            },
            "half_moved": _number(self.half_moved),
            "constant_channels": self.constant_channels,
        }


def change_of(population: Population, new: Statistics, found: Measured) -> NormChange:
    """Compares the new statistics of a layer with its old ones."""
    old, epsilon = population.stored, population.epsilon
    with np.errstate(all="ignore"):  # old statistics may be anything, that is why one is here
        shift = np.abs(new.mean - old.mean) / np.sqrt(np.abs(old.variance) + epsilon)
        ratio = (new.variance + epsilon) / (np.abs(old.variance) + epsilon)
        stretch = np.nan_to_num(np.abs(np.log(ratio)), nan=np.inf)
    shift, ratio = np.nan_to_num(shift, nan=np.inf), np.nan_to_num(ratio, nan=np.inf)
    worst = int(np.lexsort((stretch, shift))[-1])
    pairs = (old.mean, new.mean, old.variance, new.variance)
    return NormChange(
        name=population.name,
        channels=population.norm.channels,
        values=found.whole.count,
        mean_shift=float(shift.max()),
        typical_shift=_rms(shift),
        variance_ratio=(float(ratio.min()), float(ratio.max())),
        worst_channel=worst,
        worst=tuple(float(v[worst]) for v in pairs),  # type: ignore[arg-type]
        half_moved=_moved(found.half, found.whole, epsilon),
        constant_channels=int((found.whole.m2 == 0).sum()),
        old=old,
        new=new,
        epsilon=epsilon,
    )


def _moved(half: Moments, whole: Moments, epsilon: float) -> float:
    if not half.count or half.count == whole.count:
        return float("inf")
    return _rms((half.mean - whole.mean) / np.sqrt(whole.variance() + epsilon))


def _rms(values: Array) -> float:
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(np.square(values))))


def _number(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if np.isfinite(value) else None
