"""Affine maps: composition, axes, and the vectors of a normalisation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfold.algebra.affine import AffineMap, Array, affine_of_statistics

numbers = st.floats(-4, 4)
vectors = st.lists(numbers, min_size=3, max_size=3).map(np.array)
maps = st.builds(
    AffineMap.per_channel, vectors, vectors, axis=st.just(1), rank=st.just(4)
)  # shape (1, 3, 1, 1)


def _apply(amap: AffineMap, x: Array) -> Array:
    return amap.scale * x + amap.shift


X = np.random.default_rng(0).standard_normal((2, 3, 4, 5))


@given(maps, maps)
def test_then_applies_one_after_the_other(first: AffineMap, second: AffineMap) -> None:
    """then(second)(x) = second(first(x))."""
    np.testing.assert_allclose(
        _apply(first.then(second), X), _apply(second, _apply(first, X)), atol=1e-12
    )


@given(maps, maps, maps)
def test_composition_is_associative(a: AffineMap, b: AffineMap, c: AffineMap) -> None:
    left, right = a.then(b).then(c), a.then(b.then(c))
    np.testing.assert_allclose(_apply(left, X), _apply(right, X), atol=1e-10)


@given(maps)
def test_the_identity_is_neutral(a: AffineMap) -> None:
    one = AffineMap.identity(4)
    assert one.is_identity
    for product in (a.then(one), one.then(a)):
        np.testing.assert_array_equal(product.scale, a.scale)
        np.testing.assert_array_equal(product.shift, a.shift)


@given(maps)
def test_vectors_give_back_what_per_channel_took(a: AffineMap) -> None:
    found = a.vectors(1, 3)
    assert found is not None
    np.testing.assert_array_equal(found[0], a.scale.reshape(-1))
    np.testing.assert_array_equal(found[1], a.shift.reshape(-1))
    assert a.vectors(-3, 3) is not None


@pytest.mark.parametrize(("axis", "size"), [(0, 3), (2, 3), (1, 4), (4, 3), (-5, 3)])
def test_vectors_along_another_axis_are_none(axis: int, size: int) -> None:
    amap = AffineMap.per_channel(np.array([1.0, 2, 3]), np.zeros(3), 1, 4)
    assert amap.vectors(axis, size) is None


def test_one_number_serves_every_axis_and_size() -> None:
    amap = AffineMap(np.full((1,) * 4, 2.0), np.full((1,) * 4, 3.0))
    found = amap.vectors(3, 5)
    assert found is not None
    assert found[0].tolist() == [2.0] * 5


def test_a_shift_that_varies_where_the_scale_does_not() -> None:
    amap = AffineMap(np.ones((1, 1, 1, 1)), np.arange(3.0).reshape(1, 3, 1, 1))
    assert amap.varies_along == (1,)
    assert amap.has_unit_scale
    assert not amap.is_identity
    found = amap.vectors(1, 3)
    assert found is not None
    assert found[0].tolist() == [1.0] * 3


def test_ranks_must_agree() -> None:
    with pytest.raises(ValueError, match="ranks"):
        AffineMap(np.ones((1, 3)), np.zeros((1, 3, 1)))


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ((0, 1, 3, 2), (1, 3, 1, 1)),
        ((1, 0), (3, 1)),
        ((None, 0, 1), (1, 1, 3)),
        ((0, 2, 3, 1), (1, 1, 1, 3)),
    ],
)
def test_axes_move(axes: tuple[int | None, ...], shape: tuple[int, ...]) -> None:
    amap = AffineMap.per_channel(np.array([1.0, 2, 3]), np.array([4.0, 5, 6]), 1, 4)
    moved = amap.with_axes(axes)
    assert moved.shape == shape
    assert sorted(moved.scale.reshape(-1)) == [1, 2, 3]


# A normalisation


@given(vectors, vectors, vectors, vectors.map(np.abs))
def test_the_map_of_a_norm_is_the_norm(scale: Array, shift: Array, mean: Array, var: Array) -> None:
    """gamma (x - mean) / sqrt(var + eps) + beta = s x + t (Ioffe & Szegedy, Algorithm 2)."""
    epsilon = 1e-3
    s, t = affine_of_statistics(mean, var, scale, shift, epsilon)
    x = np.random.default_rng(1).standard_normal((5, 3))
    wanted = scale * (x - mean) / np.sqrt(var + epsilon) + shift
    np.testing.assert_allclose(s * x + t, wanted, rtol=1e-10, atol=1e-10)


def test_impossible_statistics_give_no_finite_map() -> None:
    one, zero = np.ones(1), np.zeros(1)
    for variance in (-1.0, 0.0, np.nan, np.inf):
        s, t = affine_of_statistics(one, np.array([variance]), one, zero, 0.0)
        assert variance == np.inf or not AffineMap(s, t).is_finite


def test_huge_and_tiny_variances() -> None:
    """Real files hold variances from 1e-38 to 2e10."""
    variance = np.array([1e-38, 1.0, 2e10])
    s, _ = affine_of_statistics(np.zeros(3), variance, np.ones(3), np.zeros(3), 1e-5)
    np.testing.assert_allclose(s, [1e-5**-0.5, (1 + 1e-5) ** -0.5, 2e10**-0.5], rtol=1e-12)
