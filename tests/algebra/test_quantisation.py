"""The laws of `bnfold.algebra.quantisation`: factors change scales and signs, never an integer's size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.algebra.quantisation import Clash, Grid, Misfit, latent, limits, multiplied

SHAPE = (3, 4, 2)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    dtype = np.dtype(draw(st.sampled_from(["int8", "uint8", "int16", "uint16", "int32"])))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    low, high = limits(dtype)
    axis = draw(st.sampled_from([None, 0, 1, 2]))
    size = () if axis is None else (SHAPE[axis],)
    zero = np.zeros(size, dtype)
    if draw(st.booleans()):
        zero = rng.integers(low, high, size, endpoint=True).astype(dtype)
    integers = rng.integers(low, high, SHAPE, endpoint=True).astype(dtype)
    return Grid(integers, rng.uniform(0.1, 1, size).astype(np.float32), zero, axis)


def values(grid: Grid) -> Any:
    """What a runtime makes of it, without its rounding."""
    return grid.steps * grid.along(grid.scale.astype(np.float64))


def _multiplied(grid: Grid, factors: Any, own_axis: int | None) -> Grid | Misfit:
    try:
        return multiplied(grid, factors, own_axis)
    except Misfit as misfit:
        return misfit


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(grids(), st.sampled_from([0, 1, 2]), st.integers(0, 999))
def test_a_product_is_the_grid_times_its_factors(grid: Grid, axis: int, seed: int) -> None:
    """(integers - zero) * scale * factor = (integers' - zero') * scale', to the scale's own rounding."""
    rng = np.random.default_rng(seed)
    shape = [1, 1, 1]
    shape[axis] = SHAPE[axis]
    factors = rng.uniform(0.5, 2, shape) * rng.choice([-1.0, 0.0, 1.0], shape)
    found = _multiplied(grid, factors, axis if grid.axis is None else None)
    if isinstance(found, Misfit):
        low = limits(grid.integers.dtype)[0]
        symmetric = low < 0 and not grid.zero.any()
        held = ((grid.integers == low) & (factors < 0)).any()
        if found.clash is Clash.AXIS:
            assert grid.axis not in (None, axis), "its own axis takes any factors"
        else:
            assert symmetric and held
        return
    np.testing.assert_allclose(values(found), values(grid) * factors, rtol=1e-6)
    assert found.integers.dtype == grid.integers.dtype and found.scale.dtype == grid.scale.dtype
    assert found.zero.shape == found.scale.shape and (found.scale > 0).all()
    assert (np.abs(found.steps) == np.where(factors == 0, 0, np.abs(grid.steps))).all()


def _grid(dtype: str, integers: list[int], zero: int = 0) -> Grid:
    array = np.asarray(integers, dtype).reshape(-1, 1, 1)
    return Grid(array, np.asarray(0.5, np.float32), np.asarray(zero, dtype), None)


def test_the_least_integer_has_no_negative() -> None:
    factors = np.array([1.0, -1.0, -2.0]).reshape(3, 1, 1)
    with pytest.raises(Misfit) as caught:
        multiplied(_grid("int8", [-128, 5, -128]), factors, 0)
    assert caught.value.clash is Clash.RANGE and caught.value.where == (2,)
    assert multiplied(_grid("int8", [-128, 5, -127]), factors, 0).integers.ravel().tolist() == [
        -128, -5, 127,
    ]  # fmt: skip


def test_an_asymmetric_one_moves_its_zero_point() -> None:
    factors = np.array([1.0, -1.0, -1.0]).reshape(3, 1, 1)
    found = multiplied(_grid("uint8", [255, 0, 200], 128), factors, 0)
    assert found.zero.tolist() == [128, 127, 128]
    assert found.integers.ravel().tolist() == [255, 255, 56]


def test_one_scale_stays_one_where_all_factors_are_alike() -> None:
    found = multiplied(_grid("int8", [3, -4, 5]), np.array([2.0, -2.0, 0.0]).reshape(3, 1, 1), None)
    assert found.axis is None and found.scale == 1.0
    assert found.integers.ravel().tolist() == [3, 4, 0]
    with pytest.raises(Misfit):
        multiplied(_grid("int8", [3, -4, 5]), np.array([2.0, -2.0, 1.0]).reshape(3, 1, 1), None)


def test_a_factor_below_the_scales_type_leaves_nothing() -> None:
    found = multiplied(_grid("int8", [3, 4]), np.array([1e-300, 1.0]).reshape(2, 1, 1), 0)
    assert found.integers.ravel().tolist() == [0, 4] and found.scale.tolist() == [0.5, 0.5]


def test_a_scale_that_loses_digits_is_refused() -> None:
    """Below the normal numbers of half precision; in single precision it has all of them."""
    grid, factors = _grid("int8", [3, 4]), np.array([1e-4, 1.0]).reshape(2, 1, 1)
    half = Grid(grid.integers, grid.scale.astype(np.float16), grid.zero, None)
    with pytest.raises(Misfit) as caught:
        multiplied(half, factors, 0)
    assert caught.value.clash is Clash.SCALE
    assert multiplied(grid, factors, 0).scale[0] == np.float32(0.5e-4)


@pytest.mark.parametrize("factor", [1.7, -1.7, 0.3, -1e-3])
def test_floats_round_to_the_integers_that_they_were(factor: float) -> None:
    """Ties, near ties, and floats beyond the last integer, some of which fall on the other side."""
    floats = np.concatenate([np.arange(-127, 128) + 0.5, np.linspace(-140, 140, 777)])
    floats = (0.02 * floats).astype(np.float32).reshape(1, -1, 1)
    rounded = np.clip(np.rint(floats / np.float32(0.02)), -127, 127)
    old = Grid(rounded.astype(np.int8), np.asarray(0.02, np.float32), np.asarray(0, np.int8), None)
    factors = np.full((1, 1, 1), factor)
    new = multiplied(old, factors, None)
    moved = latent(new, floats, factors)
    again = np.clip(np.rint(moved / new.scale), -128, 127)
    assert (again == new.integers).all() and (np.abs(new.steps) == np.abs(old.steps)).all()
    untouched = np.abs(moved - floats * factor) < 1e-6 * np.abs(factor)
    assert untouched.mean() > 0.6, "no more than ties and the far ends are moved"
