"""The rounding floor: how far outputs move when parameters change by one unit in the last place.

Each parameter is moved by ``1 + u``, ``u`` plus or minus one unit in the last place of its type, the
sign at random. (With ``u`` uniform in between, a channel that one parameter decides would often be
moved by next to nothing.) How far the original's values move then is the *rounding floor*; a right
fold lies near it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.rounding import unit_roundoff

_TABLE = 1 << 16
_BLOCK = _TABLE


def perturb(array: NDArray[Any], draw: int, place: int = 0) -> NDArray[Any]:
    """``array * (1 + u)``, elements of the same type.

    Args:
        array: any float type.
        draw: picks another pattern.
        place: picks another one among arrays of one size in one draw, which would move as one, and
            what they do could cancel in every draw.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    result = np.empty_like(flat)
    # float32 and float64 are multiplied in their own type, shorter types in float32.
    working = flat.dtype if flat.dtype in (np.float32, np.float64) else np.dtype(np.float32)
    factors = _factors(working, unit_roundoff(flat.dtype), draw)
    start = (draw * 7919 + place * 4759 + flat.size) % _TABLE
    with np.errstate(all="ignore"):
        for at in range(0, flat.size, _BLOCK):
            block = flat[at : at + _BLOCK]
            moved = block.astype(working, copy=False) * factors[start : start + block.size]
            result[at : at + _BLOCK] = moved.astype(flat.dtype, copy=False)
    return result.reshape(array.shape)


def rounding(steps: NDArray[Any], draw: int, allowed: float) -> NDArray[Any]:
    """How far to move what is kept in whole steps, so that ``allowed`` times as much is half a step."""
    signs = np.random.default_rng(draw + 1).choice([-1.0, 1.0], steps.shape)
    return np.asarray(steps * signs * (0.5 / allowed), dtype=steps.dtype)


@cache
def _factors(dtype: np.dtype[Any], unit: float, draw: int) -> NDArray[Any]:
    """``1 + u``, twice as many as a block holds, so that a block may begin anywhere."""
    u = np.random.default_rng(draw + 1).choice([-unit, unit], _TABLE)
    return np.tile((1 + u).astype(dtype), 2)
