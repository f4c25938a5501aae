"""Moments taken in torch: as true as those of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnfold.algebra.moments import sample_moments
from bnfold.formats.torch.run import moments as torch_room
from bnfold.formats.torch.run.moments import torch_moments


def assert_true(values: Any, axis: int = 1) -> None:
    """Variance to 1e-5, mean to 1e-6 deviations, beside the same in float64."""
    found, exact = torch_moments(values, axis), sample_moments(values.astype(np.float64), axis)
    assert (found.counts == exact.counts).all()
    np.testing.assert_allclose(found.m2, exact.m2, rtol=1e-5)
    deviation = np.sqrt(exact.m2 / exact.counts[:, None])
    live = exact.m2 > 0
    assert (np.abs(found.mean - exact.mean)[live] <= 1e-6 * deviation[live]).all()


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([2, 25, 127, 1000, 2048, 5000]),
    ratio=st.sampled_from([0.0, 1.0, -2.6, 5.0, -1e3, 1e5]),
    power=st.integers(-22, 22),
)
def test_any_mean_and_any_scale(seed: int, size: int, ratio: float, power: int) -> None:
    values = np.random.default_rng(seed).normal(size=(2, 3, size))
    assert_true(((values + ratio) * 10.0**power).astype(np.float32))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_axis_and_type(axis: int, dtype: Any) -> None:
    assert_true(np.random.default_rng(0).normal(3, 1, (5, 4, 6)).astype(dtype), axis)


@pytest.mark.parametrize("shape", [(1, 1, 9), (4, 3), (7,), (3, 2, 1, 1)])
def test_small_shapes(shape: tuple[int, ...]) -> None:
    assert_true(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def test_long_rows_keep_their_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Squares are added up in stretches; in one go, torch's float32 would lose too many digits."""
    values = np.random.default_rng(0).normal(-2, 1, (1, 2, 1 << 21)).astype(np.float32)
    assert_true(values)
    monkeypatch.setattr(torch_room, "_STRETCH", 1 << 30)
    with pytest.raises(AssertionError):
        assert_true(values)


def test_rows_far_from_zero_get_a_pivot(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(1000, 1, (2, 3, 400)).astype(np.float32)
    assert_true(values)
    monkeypatch.setattr(torch_room, "POOR_PIVOT", np.inf)
    with pytest.raises(AssertionError):
        assert_true(values)


def test_constants_and_what_is_no_number() -> None:
    constant = torch_moments(np.full((7, 2, 5), 0.1, np.float32))
    assert (constant.m2 == 0).all() and (constant.mean == np.float32(0.1)).all()
    for bad in (np.inf, np.nan):
        values = np.zeros((2, 2, 9), np.float32)
        values[1, 0, 3] = bad
        found = torch_moments(values).pooled()
        assert list(np.isfinite(found.mean)) == [False, True] and not found.is_finite


def test_neither_rows_nor_threads_show() -> None:
    """Each sample's moments are the same bits, whatever comes with it."""
    values = np.random.default_rng(0).normal(1, 2, (9, 5, 3000)).astype(np.float32)
    whole, threads = torch_moments(values), torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            for row in range(len(values)):
                alone = torch_moments(values[row : row + 1])
                assert (alone.mean[0] == whole.mean[row]).all()
                assert (alone.m2[0] == whole.m2[row]).all()
    finally:
        torch.set_num_threads(threads)


def test_what_is_lent_is_not_written_into() -> None:
    values = np.random.default_rng(0).normal(50, 1, (3, 4, 30)).astype(np.float32)
    before = values.copy()
    torch_moments(values)
    assert (values == before).all()
    values.setflags(write=False)
    assert (torch_moments(values).mean == torch_moments(before).mean).all()
