"""The statistics of two models beside one another: a release against the last one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.formats import Model
from bnfold.jobs.common import ModelInfo
from bnfold.kinds import Norm


@dataclass(frozen=True)
class Change:
    """One BatchNorm beside the other model's. ``mean_shift`` is the largest over the channels, in
    the other's deviations, at ``channel``; ``variance_ratio`` the smallest and the largest;
    ``affine`` the largest change of scale or shift."""

    name: str
    mean_shift: float
    channel: int
    variance_ratio: tuple[float, float]
    affine: float

    @classmethod
    def of(cls, name: str, now: Norm, before: Norm) -> Change:
        epsilon = before.epsilon or 0.0
        with np.errstate(all="ignore"):
            shift = np.abs(now.mean - before.mean) / np.sqrt(before.variance + epsilon)
            ratio = (now.variance + epsilon) / (before.variance + epsilon)
        # A channel that was and is the same has not moved, whatever it holds.
        shift = np.where(_same(now.mean, before.mean), 0.0, shift)
        ratio = np.where(_same(now.variance, before.variance), 1.0, ratio)
        worst = int(np.argmax(np.nan_to_num(shift, nan=np.inf)))
        moved = max(
            _largest(now.scale, before.scale),
            _largest(now.shift, before.shift),
        )
        return cls(
            name, float(shift[worst]), worst, (float(ratio.min()), float(ratio.max())), moved
        )

    @property
    def is_change(self) -> bool:
        return self.mean_shift != 0 or self.variance_ratio != (1.0, 1.0) or self.affine != 0

    def to_json(self) -> dict[str, Any]:
        low, high = self.variance_ratio
        return {
            "name": self.name,
            "changed": self.is_change,
            "mean_shift": self.mean_shift,
            "channel": self.channel,
            "variance_ratio": {"min": low, "max": high},
            "affine_change": self.affine,
        }


@dataclass(frozen=True)
class Against:
    """All layers. ``missing`` are in the other model alone, ``new`` in this one alone, ``resized``
    have other numbers of channels there. ``by_position``: no name agreed, so they go by their order.
    """

    other: ModelInfo
    changes: tuple[Change, ...]
    missing: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    by_position: bool = False

    @property
    def changed(self) -> tuple[Change, ...]:
        """Those that differ, the furthest first."""
        found = (change for change in self.changes if change.is_change)
        return tuple(sorted(found, key=lambda c: -np.nan_to_num(c.mean_shift, nan=np.inf)))

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.other.to_json(),
            "batch_norms": [change.to_json() for change in self.changes],
            "missing": list(self.missing),
            "new": list(self.new),
            "resized": list(self.resized),
            "by_position": self.by_position,
        }


def against(model: Model, other: Model) -> Against:
    """The layers of ``model`` beside those of the same name in ``other``."""
    ours, theirs = _norms(model), _norms(other)
    by_position = not ours.keys() & theirs.keys() and _sizes(ours) == _sizes(theirs)
    if by_position:
        theirs = dict(zip(ours, theirs.values(), strict=True))
    both = [name for name in ours if name in theirs]
    resized = [name for name in both if ours[name].channels != theirs[name].channels]
    return Against(
        ModelInfo.of(other),
        tuple(Change.of(n, ours[n], theirs[n]) for n in both if n not in resized),
        tuple(name for name in theirs if name not in ours),
        tuple(name for name in ours if name not in theirs),
        tuple(resized),
        by_position and bool(ours),
    )


def _norms(model: Model) -> Mapping[str, Norm]:
    return {node.name: node.kind for node in model.graph.norms if isinstance(node.kind, Norm)}


def _sizes(norms: Mapping[str, Norm]) -> list[int]:
    return [norm.channels for norm in norms.values()]


def _same(a: Array, b: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


def _largest(a: Array, b: Array) -> float:
    """The largest difference, 0 where all are the same."""
    with np.errstate(all="ignore"):
        return float(np.where(_same(a, b), 0.0, np.abs(a - b)).max(initial=0.0))
