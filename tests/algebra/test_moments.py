"""Moments: exact to rounding, whatever the order, the split and the offset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnfold.algebra import moments as algebra_moments
from bnfold.algebra.moments import Moments, sample_moments


def reference(values: NDArray[Any], axis: int = 1) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and biased variance by the textbook, in extended precision."""
    lines = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1).astype(np.longdouble)
    mean = lines.mean(axis=1)
    return mean, ((lines - mean[:, None]) ** 2).mean(axis=1)


def assert_close(
    moments: Moments, values: NDArray[Any], axis: int = 1, rtol: float = 1e-10
) -> None:
    mean, variance = reference(values, axis)
    assert moments.count == values.size // values.shape[axis]
    np.testing.assert_allclose(moments.mean, mean.astype(np.float64), rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(moments.variance(), variance.astype(np.float64), rtol=rtol)


@pytest.mark.parametrize(
    "shape", [(5, 3), (5, 3, 7), (4, 3, 5, 6), (2, 3, 2, 3, 4), (1, 3, 9), (9, 3, 1)]
)
def test_moments_of_any_rank(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(2, 3, shape).astype(np.float32)
    assert_close(Moments.of(values), values)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_channels_may_lie_along_any_axis(axis: int) -> None:
    values = np.random.default_rng(0).normal(size=(4, 5, 6))
    assert_close(Moments.of(values, axis), values, axis)


def test_a_large_mean_leaves_the_variance_alone() -> None:
    values = np.random.default_rng(0).normal(1000, 0.01, (64, 4, 8, 8)).astype(np.float32)
    variance = Moments.of(values).variance()
    exact = reference(values)[1].astype(np.float64)
    assert (variance > 0).all()
    np.testing.assert_allclose(variance, exact, rtol=1e-6)
    single = values.mean(axis=(0, 2, 3), dtype=np.float32)
    naive = (values**2).mean(axis=(0, 2, 3), dtype=np.float32) - single**2
    assert np.abs(naive / exact - 1).max() > 1, "the textbook formula in float32 is useless here"


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return rng.standard_normal(shape)


def _skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.exp(2 * rng.standard_normal(shape))


def _sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.maximum(rng.standard_normal(shape) - 2, 0)


def _poorly_begun(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """The elements that the pivot is made of lie far from all others."""
    values = rng.standard_normal(shape)
    values[..., shape[-1] // 8 :: shape[-1] // 4] += 50
    return values


@pytest.mark.parametrize("make", [_normal, _skewed, _sparse, _poorly_begun])
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([127, 128, 196, 1000, 1025, 5000]),
    ratio=st.sampled_from([0.0, 1.0, -1e3, 1e5]),
    power=st.integers(-12, 12),
)
def test_float32_keeps_its_promise(
    make: Callable[..., NDArray[Any]], seed: int, size: int, ratio: float, power: int
) -> None:
    """Variance to 1e-5, mean to 1e-6 deviations, at any mean up to 1e5 deviations and any scale."""
    values = make(np.random.default_rng(seed), (2, 3, size))
    values = ((values + ratio * values.std()) * 10.0**power).astype(np.float32)
    found, exact = sample_moments(values), sample_moments(values.astype(np.float64))
    live = exact.m2 > 0
    np.testing.assert_allclose(found.m2, exact.m2, rtol=1e-5)
    deviation = np.sqrt(exact.m2 / size)
    assert (np.abs(found.mean - exact.mean)[live] <= 1e-6 * deviation[live]).all()


def test_a_poor_pivot_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the second look at such rows, the promise above would be broken."""
    values = np.random.default_rng(0).standard_normal((1, 64, 20000), np.float32)
    values[:, :, 2500::5000] += 30  # the elements that the pivot is made of
    exact = sample_moments(values.astype(np.float64)).m2
    np.testing.assert_allclose(sample_moments(values).m2, exact, rtol=1e-7)
    monkeypatch.setattr(algebra_moments, "POOR_PIVOT", np.inf)
    assert np.abs(sample_moments(values).m2 / exact - 1).max() > 1e-5


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_squares_that_float32_does_not_hold(scale: float) -> None:
    values = (np.random.default_rng(0).normal(size=(2, 3, 400)) * scale).astype(np.float32)
    assert_close(Moments.of(values), values, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_small_types(dtype: Any) -> None:
    values = np.random.default_rng(0).normal(3, 1, (2, 3, 400)).astype(dtype)
    assert_close(Moments.of(values), values.astype(np.float64), rtol=1e-5)


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.sampled_from([0.0, 1e3, -1e6]),
)
def test_merging_parts_is_the_whole(seed: int, sizes: list[int], offset: float) -> None:
    """Chan's formula: moments(a) merged with moments(b) are moments(a and b)."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(offset, 1, (n, 2, 3)) for n in (*sizes, 2)]
    merged = Moments.merged(map(Moments.of, parts), 2)
    assert_close(merged, np.concatenate(parts), rtol=1e-8)


@given(st.integers(1, 40), st.integers(1, 400))
def test_blocks_do_not_show(rows: int, size: int) -> None:
    """Each sample's moments are the same bits, however many samples come with it."""
    values = np.random.default_rng(rows).normal(size=(rows, 3, size)).astype(np.float32)
    whole = sample_moments(values)
    for row in range(rows):
        alone = sample_moments(values[row : row + 1])
        assert (alone.mean[0] == whole.mean[row]).all() and (alone.m2[0] == whole.m2[row]).all()


def test_constants_have_no_variance() -> None:
    moments = Moments.of(np.full((7, 2, 5), 0.1, np.float32))
    assert (moments.m2 == 0).all() and (moments.mean == np.float32(0.1)).all()


def test_half_precision_does_not_overflow() -> None:
    values = np.full((300, 2, 300), 60000, np.float16)
    values[::2] = 0
    moments = Moments.of(values)
    np.testing.assert_allclose(moments.mean, np.float64(np.float16(60000)) / 2)


def test_empty_and_single() -> None:
    empty = Moments.empty(3)
    one = Moments.of(np.ones((1, 3)))
    assert empty.merge(one).count == one.merge(empty).count == 1
    assert (one.variance() == 0).all()
    with pytest.raises(ValueError, match="no such variance"):
        one.variance(unbiased=True)
    with pytest.raises(ValueError, match="no such variance"):
        empty.variance()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_show(bad: float) -> None:
    values = np.zeros((4, 2, 3), np.float32)
    values[2, 1, 2] = bad
    assert not Moments.of(values).is_finite
    assert Moments.of(values[:2]).is_finite
