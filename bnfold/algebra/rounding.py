"""The one final cast from float64 into a weight's own type, and what it may destroy."""

from __future__ import annotations

from enum import Enum
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnfold.algebra.affine import Array


class Loss(Enum):
    """What a cast would destroy."""

    OVERFLOW = "overflow"
    UNDERFLOW = "underflow"


def float_info(dtype: DTypeLike) -> Any:
    """``finfo`` of any float type, bfloat16 and the like included."""
    finfo: Any = ml_dtypes.finfo
    return finfo(dtype)


def unit_roundoff(dtype: DTypeLike) -> float:
    """One unit in the last place of 1.0: 2**-23 for float32."""
    return float(float_info(dtype).eps)


def is_float(dtype: DTypeLike) -> bool:
    """Whether the type is a floating-point one, those of ml_dtypes included."""
    kind = np.dtype(dtype)
    return np.issubdtype(kind, np.floating) or (kind.kind == "V" and "float" in kind.name)


def is_half(dtype: DTypeLike) -> bool:
    """Whether the type holds 16 bits or fewer."""
    return np.dtype(dtype).itemsize <= 2


def cast(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """``values`` in ``dtype``; results below its smallest normal number become zero.

    Denormal weights make some processors many times slower and carry no meaning beside the others.
    In half precision they are an ordinary part of the range and stay.
    """
    target = np.dtype(dtype)
    with np.errstate(over="ignore", under="ignore"):
        result = np.array(values, dtype=target)
    if not is_half(target):
        tiny = float_info(target).tiny
        # Most arrays hold none, which is quicker to see. (A NaN hides the others: then it is not seen.)
        if not np.abs(result).min(initial=np.inf) > tiny:
            np.copyto(result, 0, where=np.abs(values) < float(tiny))
    return result


def cast_loss(peaks: Array, dtype: DTypeLike) -> Loss | None:
    """What casting channels whose largest magnitudes are ``peaks`` to ``dtype`` would destroy.

    A channel that falls below the normal numbers is lost, unless it is so far below the other
    channels (the square of the unit roundoff) that it is dead beside them: real networks have many
    of those, with a scale of 1e-30 or less.
    """
    info = float_info(dtype)
    if not np.isfinite(peaks).all() or (peaks > float(info.max)).any():
        return Loss.OVERFLOW
    eps = float(info.eps)
    # Half precision has few normal numbers; there a channel may live among the denormals as long
    # as its largest weight keeps about half of its bits.
    least = float(info.tiny) * (np.sqrt(eps) if is_half(dtype) else 1.0)
    lost = peaks[(peaks > 0) & (peaks < least)]
    return Loss.UNDERFLOW if (lost > eps**2 * peaks.max(initial=0)).any() else None


def overflows(values: Array, dtype: DTypeLike) -> bool:
    """Whether some element is not finite in ``dtype``."""
    return not np.isfinite(values).all() or bool(
        (np.abs(values) > float(float_info(dtype).max)).any()
    )
