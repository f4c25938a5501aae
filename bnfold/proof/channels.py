"""Comparing a subgraph of two models channel by channel, each against its own rounding noise (floor).

A relative error against the whole tensor's maximum would hide one wrong channel among hundreds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.rounding import float_info
from bnfold.proof.comparison import ALLOWED_RATIO, number, ratio_of

Array = NDArray[Any]


@dataclass(frozen=True)
class PieceComparison:
    """One value that leaves a changed piece, in both models.

    ``channel`` is the one where the error is largest beside its floor. ``excitation``: what was fed
    when it was found, the original's own ``activations``, ``random`` values like them, or ``wide``
    ones; ``nothing`` where the piece cannot be run by itself. ``informs``: whether every channel had
    finite values to compare. ``precise``: judged in float64. ``seen_in``: the network's outputs that
    show a piece which was not run.
    """

    name: str
    channel: int
    error: float
    floor: float
    ratio: float
    excitation: str
    informs: bool
    passed: bool
    precise: bool = False
    seen_in: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "channel": self.channel,
            "error": number(self.error),
            "floor": number(self.floor),
            "ratio": number(self.ratio),
            "excitation": self.excitation,
            "informs": self.informs,
            "precise": self.precise,
            "passed": self.passed,
        }


def compare_channels(
    name: str,
    reference: Array,
    candidate: Array,
    moved: Array,
    axis: int,
    excitation: str,
    *,
    dtype: np.dtype[Any] | None = None,
) -> PieceComparison:
    """Compares a value of a piece.

    Args:
        name: of the value.
        reference: the original's.
        candidate: the written model's.
        moved: how far moved parameters move each channel, as `movement` gives it.
        axis: the channels; values without that axis are one channel.
        excitation: what was fed.
        dtype: the type that the value has in the file, where these arrays are more precise.
    """
    precise = dtype is not None
    if reference.shape != candidate.shape:
        return PieceComparison(name, 0, np.inf, 0.0, np.inf, excitation, True, False, precise)
    a, b = _by_channel(reference, axis), _by_channel(candidate, axis)
    if not a.size:
        return PieceComparison(name, 0, 0.0, 0.0, 0.0, excitation, False, True, precise)
    finite = np.isfinite(a) & np.isfinite(b)
    floor = np.maximum(_own_rounding(a, dtype or reference.dtype, precise=precise), moved)
    with np.errstate(all="ignore"):
        error = np.abs(a - b).max(axis=1).astype(np.float64)
        if not finite.all():
            error = np.where(finite, np.abs(a - b), 0.0).max(axis=1).astype(np.float64)
            error[_differ_in_pattern(a, b) & np.isfinite(moved)] = np.inf
    ratios = np.array([ratio_of(e, f) for e, f in zip(error, floor, strict=True)])
    worst = int(ratios.argmax())
    informs = bool(finite.any(axis=1).all())
    return PieceComparison(
        name,
        worst,
        float(error[worst]),
        float(floor[worst]),
        float(ratios[worst]),
        excitation,
        informs,
        bool(ratios[worst] <= ALLOWED_RATIO),
        precise,
    )


def movement(reference: Array, perturbed: Sequence[Array], axis: int) -> Array:
    """How far moved parameters move each channel, shape ``(channels,)``, float64.

    Infinite where they put a NaN or an infinity where there was a number, or the other way round.
    """
    a = _by_channel(reference, axis)
    found = np.zeros(len(a))
    for draw in perturbed:
        p = _by_channel(draw, axis)
        if p.shape != a.shape or not a.size:
            return np.zeros(len(a))
        with np.errstate(all="ignore"):
            change = np.abs(a - p)
            alike = np.isfinite(change)
            if not alike.all():
                change = np.where(alike, change, 0.0)
                change[np.isfinite(a) != np.isfinite(p)] = np.inf
        found = np.maximum(found, change.max(axis=1))
    return found


def _own_rounding(a: Array, dtype: Any, *, precise: bool) -> Array:
    """Half a unit in the last place of each channel's largest value.

    Next to a channel whose values are smaller than the others' by more than the square of the unit
    roundoff, that channel is dead: what becomes of it is lost in any sum with them.
    """
    info = float_info(dtype)
    eps, magnitude = float(info.eps), np.abs(a)
    if not np.isfinite(magnitude).all():
        magnitude = np.where(np.isfinite(magnitude), magnitude, 0.0)
    peaks = magnitude.max(axis=1).astype(np.float64)
    least = max(eps**2 * float(peaks.max()), float(info.tiny))
    return np.full(len(a), least) if precise else np.maximum(eps / 2 * peaks, least)


def _differ_in_pattern(a: Array, b: Array) -> NDArray[np.bool_]:
    """Channels where NaN or an infinity stands in one model only."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    odd = (~np.isfinite(a) | ~np.isfinite(b)) & ~same
    return np.asarray(odd.any(axis=1))


def _by_channel(array: Array, axis: int) -> Array:
    """Shape (channels, everything else), float32 or float64."""
    if np.iscomplexobj(array):
        array = np.stack([array.real, array.imag], axis=-1)
    wide = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if not -wide.ndim <= axis < wide.ndim:
        return wide.reshape(1, -1)
    moved = np.moveaxis(wide, axis, 0)
    return moved.reshape(moved.shape[0], -1)
