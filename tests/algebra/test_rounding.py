"""The one final cast, and what it may not destroy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import DTypeLike

from bnfold.algebra.rounding import Loss, cast, cast_loss, is_half, overflows, unit_roundoff

BFLOAT16 = ml_dtypes.bfloat16
TYPES: list[DTypeLike] = [np.float16, BFLOAT16, np.float32, np.float64]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.float16, 2**-10), (BFLOAT16, 2**-7), (np.float32, 2**-23), (np.float64, 2**-52)],
)
def test_unit_roundoff(dtype: DTypeLike, expected: float) -> None:
    assert unit_roundoff(dtype) == expected


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_cast_rounds_to_nearest(dtype: DTypeLike) -> None:
    values = np.random.default_rng(0).uniform(-2, 2, 1000)
    result = cast(values, dtype)
    assert result.dtype == np.dtype(dtype)
    relative = np.abs(result.astype(np.float64) - values) / np.abs(values)
    assert relative.max() <= unit_roundoff(dtype) / 2


def test_denormal_results_are_flushed_except_in_half_precision() -> None:
    """They slow processors down by far more than they mean."""
    assert cast(np.array([1e-39, 1.0]), np.float32).tolist() == [0.0, 1.0]
    assert cast(np.array([-1e-310]), np.float64)[0] == 0.0
    assert cast(np.array([1e-6]), np.float16)[0] > 0


@pytest.mark.parametrize(
    ("peaks", "dtype", "loss"),
    [
        ([1.0, 2.0], np.float32, None),
        ([1e39], np.float32, Loss.OVERFLOW),
        ([70000.0], np.float16, Loss.OVERFLOW),
        ([70000.0], BFLOAT16, None),
        ([np.inf], np.float64, Loss.OVERFLOW),
        ([np.nan], np.float32, Loss.OVERFLOW),
        ([0.0, 0.0], np.float32, None),
        ([1e-39, 1.0], np.float32, None),  # dead beside the other
        ([1e-39, 1e-38], np.float32, Loss.UNDERFLOW),
        ([1e-7, 2e-7], np.float16, Loss.UNDERFLOW),
        ([0.0, 1e-3], np.float16, None),
    ],
)
def test_cast_loss(peaks: list[float], dtype: DTypeLike, loss: Loss | None) -> None:
    assert cast_loss(np.array(peaks), dtype) is loss


def test_overflow_of_single_elements() -> None:
    assert overflows(np.array([1.0, 1e39]), np.float32)
    assert overflows(np.array([np.nan]), np.float64)
    assert not overflows(np.array([-3e38]), np.float32)
    assert overflows(np.array([-7e4]), np.float16)


def test_which_types_are_half() -> None:
    assert [is_half(t) for t in TYPES] == [True, True, False, False]
