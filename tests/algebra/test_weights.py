"""Weights of every layout absorb maps on either side: compared with the operator itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from bnfold.algebra.affine import Array
from bnfold.algebra.blocks import parts_of
from bnfold.algebra.weights import WeightLayout

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Case:
    """One layout, and what its operator computes from an input and a weight."""

    layout: WeightLayout
    input_shape: tuple[int, ...]
    compute: Callable[[Array, Array], Array]
    in_axis: int
    out_axis: int


def _node(op: str, **attributes: Any) -> Callable[[Array, Array], Array]:
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)

    def compute(x: Array, w: Array) -> Array:
        (y,) = ReferenceEvaluator(node).run(None, {"x": x, "w": w})
        return np.asarray(y)

    return compute


CASES = {
    "conv": Case(WeightLayout.conv((6, 4, 3, 3), 1), (2, 4, 5, 5), _node("Conv"), 1, 1),
    "conv in groups": Case(
        WeightLayout.conv((6, 2, 3, 3), 2), (2, 4, 5, 5), _node("Conv", group=2), 1, 1),
    "depthwise": Case(
        WeightLayout.conv((8, 1, 2, 2), 4), (1, 4, 5, 5), _node("Conv", group=4), 1, 1),
    "conv 1d": Case(WeightLayout.conv((6, 4, 3), 1), (2, 4, 7), _node("Conv"), 1, 1),
    "conv transpose": Case(
        WeightLayout.conv_transpose((4, 3, 1, 1), 1), (2, 4, 5, 5), _node("ConvTranspose"), 1, 1),
    "matrix on the right": Case(WeightLayout.matrix((4, 6), 1, 0), (3, 4), np.matmul, 1, 1),
    "matrix on the right, stacked": Case(
        WeightLayout.matrix((2, 4, 6), -1, -2), (2, 3, 4), np.matmul, 2, 2),
    "transposed matrix": Case(
        WeightLayout.matrix((6, 4), 0, 1), (3, 4), lambda x, w: x @ w.T, 1, 1),
    "matrix on the left": Case(
        WeightLayout.matrix((6, 4), -2, -1), (4, 3), lambda x, w: w @ x, 0, 0),
}  # fmt: skip


def _along(vector: Array, axis: int, rank: int) -> Array:
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_counts(case: Case) -> None:
    x, w = RNG.standard_normal(case.input_shape), RNG.standard_normal(case.layout.shape)
    assert case.layout.inputs == case.input_shape[case.in_axis]
    assert case.layout.outputs == case.compute(x, w).shape[case.out_axis]


def test_a_scale_behind(case: Case) -> None:
    """s (W x) = (s W) x."""
    x, w = RNG.standard_normal(case.input_shape), RNG.standard_normal(case.layout.shape)
    s = RNG.uniform(-2, 2, case.layout.outputs)
    y = case.compute(x, w)
    scaled = case.layout.scaled(w, s, None)
    np.testing.assert_allclose(
        case.compute(x, scaled), _along(s, case.out_axis, y.ndim) * y, atol=1e-10
    )


def test_a_map_before(case: Case) -> None:
    """W (s x + t) = (W s) x + W t, where every output sees the whole kernel."""
    x, w = RNG.standard_normal(case.input_shape), RNG.standard_normal(case.layout.shape)
    s, t = (RNG.uniform(-2, 2, case.layout.inputs) for _ in range(2))
    mapped = _along(s, case.in_axis, x.ndim) * x + _along(t, case.in_axis, x.ndim)
    wanted = case.compute(mapped, w)
    y = case.compute(x, case.layout.scaled(w, None, s))
    if case.layout.is_stack:
        y = y + case.compute(np.broadcast_to(_along(t, case.in_axis, x.ndim), x.shape), w)
    else:
        y = y + _along(case.layout.contract(parts_of(w), t), case.out_axis, y.ndim)
    np.testing.assert_allclose(y, wanted, atol=1e-10)


def test_both_at_once_is_one_after_the_other(case: Case) -> None:
    w = RNG.standard_normal(case.layout.shape)
    out, into = RNG.uniform(1, 2, case.layout.outputs), RNG.uniform(1, 2, case.layout.inputs)
    twice = case.layout.scaled(case.layout.scaled(w, out, None), None, into)
    np.testing.assert_allclose(case.layout.scaled(w, out, into), twice, rtol=1e-12)


def test_peaks(case: Case) -> None:
    """The largest magnitude in the weights of each output channel."""
    w = RNG.standard_normal(case.layout.shape)
    peaks = case.layout.channel_peaks(parts_of(w))
    assert peaks.shape == (case.layout.outputs,)
    assert peaks.max() == np.abs(w).max()
    s = np.zeros(case.layout.outputs)
    s[0] = 1.0
    assert np.abs(case.layout.scaled(w, s, None)).max() == peaks[0]


def test_arithmetic_is_float64(case: Case) -> None:
    w = RNG.standard_normal(case.layout.shape).astype(np.float32)
    result = case.layout.scaled(w, RNG.uniform(1, 2, case.layout.outputs), None)
    assert result.dtype == np.float64
    assert w.dtype == np.float32
