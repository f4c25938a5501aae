"""Blocks cover an array in order, and what is computed in blocks is what is computed at once."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from bnfold.algebra import weights
from bnfold.algebra.blocks import blocks_of, parts_of
from bnfold.algebra.rounding import cast, float_info, is_half
from bnfold.algebra.weights import WeightLayout

_SHAPES = st.lists(st.integers(0, 5), max_size=5).map(tuple)
_LAYOUTS = st.sampled_from(
    [
        WeightLayout.conv((6, 4, 3, 3), 1),
        WeightLayout.conv((6, 2, 3), 2),
        WeightLayout.conv_transpose((4, 3, 2, 1), 2),
        WeightLayout.matrix((5, 7), 1, 0),
        WeightLayout.matrix((5, 7), 0, 1),
        WeightLayout.matrix((2, 4, 6), -1, -2),
        WeightLayout.matrix((0, 7), 1, 0),
    ]
)


@given(shape=_SHAPES, limit=st.integers(1, 40))
def test_blocks_cover_an_array_in_order(shape: tuple[int, ...], limit: int) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    blocks = blocks_of(shape, limit)
    assert all(block.size <= limit for block in blocks)
    found: list[Any] = []
    for block in blocks:
        part = array[block.index]
        assert part.shape == block.shape
        found += part.reshape(-1).tolist()
    assert found == list(range(array.size))


def test_few_blocks_are_small() -> None:
    """Where an axis is cut, no block but the last of a row has less than half of the limit."""
    assert len(blocks_of((64, 512, 3, 3), 1 << 16)) <= 2 * 64 * 512 * 9 // (1 << 16)
    assert len(blocks_of((1 << 20,), 1 << 16)) == 16


@given(layout=_LAYOUTS, limit=st.integers(1, 30), seed=st.integers(0, 99), which=st.integers(0, 3))
def test_scaled_in_blocks_is_scaled(
    layout: WeightLayout, limit: int, seed: int, which: int
) -> None:
    """Every bit, as what is written must not depend on how it was walked over."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(layout.shape).astype(np.float32)
    out = rng.standard_normal(layout.outputs) if which & 1 else None
    into = rng.standard_normal(layout.inputs) if which & 2 else None
    whole = layout.scaled(w, out, into)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "blocks_of", lambda shape: blocks_of(shape, limit))
        found = [b.copy() for b in layout.scaled_blocks(parts_of(w), out, into)]
        peaks = layout.channel_peaks(parts_of(w), out, into)
        sums = layout.contract(parts_of(w), np.ones(layout.inputs))
    joined = np.concatenate([*found, np.empty(0)])
    assert joined.tobytes() == whole.tobytes()
    rest = tuple(i for i in range(len(layout.split)) if i not in layout.out_axes)
    by_output = np.abs(whole.reshape(layout.split)).max(axis=rest, initial=0).reshape(-1)
    assert peaks.tolist() == by_output.tolist()
    plain = w.astype(np.float64).reshape(layout.split).sum(axis=rest).reshape(-1)
    np.testing.assert_allclose(sums, plain, atol=1e-12)


@pytest.mark.parametrize("sick", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_peaks_show_what_is_no_number(sick: float, dtype: DTypeLike) -> None:
    w = np.full((2, 3), -2.0, dtype)
    w[1, 1] = sick
    peaks = WeightLayout.matrix((2, 3), 0, 1).channel_peaks(parts_of(w))
    assert peaks[0] == 2 and not np.isfinite(peaks[1])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64], ids=str)
@given(seed=st.integers(0, 200))
def test_a_cast_flushes_exactly_what_is_below_the_normal_numbers(
    dtype: DTypeLike, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    tiny = float(float_info(dtype).tiny)
    special = np.array(
        [0.0, -0.0, tiny, -tiny, np.nextafter(tiny, 0), tiny / 2, np.nan, np.inf, 1.0]
    )
    values = rng.choice(special, rng.integers(0, 9)) * rng.choice([1.0, -1.0, 0.999])
    with np.errstate(all="ignore"):
        plain = values.astype(dtype)
        if not is_half(dtype):
            plain[np.abs(values) < tiny] = 0
    assert cast(values, dtype).tobytes() == plain.tobytes()
