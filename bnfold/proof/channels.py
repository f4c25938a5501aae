"""Comparing one piece of a network, channel by channel, each against its own rounding floor.

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
    when it was found, the original's own ``activations`` or ``random`` values like them.
    ``informs``: whether every channel had finite values to compare. ``precise``: judged in float64.
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
    perturbed: Sequence[Array],
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
        perturbed: the original's with moved parameters.
        axis: the channels; values without that axis are one channel.
        excitation: what was fed.
        dtype: the type that the value has in the file, where these arrays are more precise.
    """
    precise = dtype is not None
    if reference.shape != candidate.shape:
        return PieceComparison(name, 0, np.inf, 0.0, np.inf, excitation, True, False, precise)
    a, b, *moved = (_by_channel(x, axis) for x in (reference, candidate, *perturbed))
    if not a.size:
        return PieceComparison(name, 0, 0.0, 0.0, 0.0, excitation, False, True, precise)
    finite = np.isfinite(a) & np.isfinite(b)
    floor = _floors(a, moved, dtype or reference.dtype, precise=precise)
    with np.errstate(all="ignore"):
        error = np.where(finite, np.abs(a - b), 0.0).max(axis=1)
    error[_differ_in_pattern(a, b, moved)] = np.inf
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


def _floors(a: Array, moved: Sequence[Array], dtype: Any, *, precise: bool) -> Array:
    """One for each channel: what moved parameters do, or the rounding of the value itself.

    Next to a channel whose values are smaller than the others' by more than the square of the unit
    roundoff, that channel is dead: what becomes of it is lost in any sum with them.
    """
    info = float_info(dtype)
    eps, magnitude = float(info.eps), np.where(np.isfinite(a), np.abs(a), 0.0)
    peaks = magnitude.max(axis=1)
    least = max(eps**2 * float(peaks.max()), float(info.tiny))
    floor = np.full(len(a), least) if precise else np.maximum(eps / 2 * peaks, least)
    with np.errstate(all="ignore"):
        for p in moved:
            change = np.abs(a - p)
            floor = np.maximum(floor, np.where(np.isfinite(change), change, 0.0).max(axis=1))
    return np.asarray(floor)


def _differ_in_pattern(a: Array, b: Array, moved: Sequence[Array]) -> NDArray[np.bool_]:
    """Channels where NaN or an infinity stands in one model only, and rounding cannot explain it."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    odd = (~np.isfinite(a) | ~np.isfinite(b)) & ~same
    for p in moved:
        odd &= np.isfinite(a) == np.isfinite(p)
    return np.asarray(odd.any(axis=1))


def _by_channel(array: Array, axis: int) -> Array:
    """Shape (channels, everything else), float64."""
    if np.iscomplexobj(array):
        array = np.stack([array.real, array.imag], axis=-1)
    wide = array.astype(np.float64)
    if not -wide.ndim <= axis < wide.ndim:
        return wide.reshape(1, -1)
    moved = np.moveaxis(wide, axis, 0)
    return moved.reshape(moved.shape[0], -1)
