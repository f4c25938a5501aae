"""Laws that hold for every network, on networks that nobody has thought of.

``BNFOLD_HYPOTHESIS=thorough pytest tests/test_laws.py`` tries thousands.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

import bnfold
import situations.random as random
from bnfold.algebra.affine import affine_of_statistics
from bnfold.planning import Action, Decision, Direction, Plan, Reason, Refusal
from situations.build import Net, operators
from situations.random import SIZE, Maker, networks
from situations.run import error, feeds_for, run_in_double

EXACT = 1e-8
SIZES = ((1, SIZE), (3, SIZE + 3))


def _folded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Plan]:
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place, "model.onnx"), Path(place, "folded.onnx")
        onnx.save(model, source)
        result = bnfold.fold(source, target, verify=False)
        return onnx.load(target), result.plan


def _difference(ours: onnx.ModelProto, theirs: onnx.ModelProto) -> float:
    return max(
        error(run_in_double(ours, feeds), run_in_double(theirs, feeds))
        for feeds in feeds_for(ours, SIZES)
    )


@given(networks())
def test_a_fold_computes_the_same(model: onnx.ModelProto) -> None:
    """fold(f)(x) = f(x) for every x, at every size of the dynamic axes."""
    folded, _ = _folded(model)
    assert _difference(model, folded) <= EXACT


@given(networks(most=8))
def test_a_fold_leaves_no_more_nodes_and_nothing_to_fold(model: onnx.ModelProto) -> None:
    """fold(fold(f)) = fold(f), and what is reported gone is gone."""
    folded, plan = _folded(model)
    before, after = operators(model.graph), operators(folded.graph)
    assert after["BatchNormalization"] == plan.kept
    assert after.total() <= before.total()
    again, second = _folded(folded)
    assert not second.foldable
    assert operators(again.graph) == after


def _fails(model: onnx.ModelProto) -> bool:
    try:
        return _difference(model, _folded(model)[0]) > EXACT
    except AssertionError:
        return True


def _finds_a_counterexample(makers: Sequence[Maker]) -> bool:
    """Whether the property fails on some network of convolutions, norms and ``makers``."""
    choice = (random.norm, random.conv, *makers)
    settings = hypothesis.settings(
        max_examples=1000, database=None, derandomize=True, deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    try:
        hypothesis.find(
            networks(least=5, most=7, makers=(choice, choice)), _fails, settings=settings
        )
    except hypothesis.errors.NoSuchExample:
        return False
    return True


PLANTED: dict[str, tuple[str, Any, list[Maker]]] = {
    "a shift may enter a padded convolution": (
        "bnfold.formats.onnx.graph.operators.convolutions._every_tap", True, []),
    "a shift may pass counted padding": (
        "bnfold.planning.kinds.average.carries_shift", True, [random.pool]),
    "a maximum takes negative scales": (
        "bnfold.planning.kinds.monotone._check_scale", None, [random.maximum]),
    "zero padding is no obstacle": (
        "bnfold.planning.kinds.movement._check_constants", None, [random.pad]),
    "other readers do not matter": (
        "bnfold.planning.walk.Walk._check_other_readers", None, [random.join]),
}  # fmt: skip


@pytest.mark.parametrize("bug", PLANTED)
def test_the_property_finds_a_planted_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A property that cannot fail shows nothing."""
    place, answer, makers = PLANTED[bug]
    monkeypatch.setattr(place, lambda *_: answer)
    assert _finds_a_counterexample(makers)


# The laws of the algebra, on one convolution

# Of ordinary size: that tiny products flush to zero has tests of its own.
numbers = st.floats(-2, 2).map(lambda x: x if abs(x) > 1e-3 else 0.0)
vectors = st.lists(numbers, min_size=4, max_size=4).map(np.array)
variances = st.lists(st.floats(0.01, 4), min_size=4, max_size=4).map(np.array)
statistics = st.fixed_dictionaries(
    {"scale": vectors, "shift": vectors, "mean": vectors, "variance": variances}
)
Statistics = dict[str, NDArray[np.float64]]


def _conv_with(norms: Sequence[dict[str, Any]], group: int = 1) -> onnx.ModelProto:
    net = Net(dtype=TensorProto.DOUBLE)
    y = net.conv(net.input("N", 4, "H", "W"), 4, 4, group=group)
    for i, vectors in enumerate(norms):
        y = net.bn(y, 4, f"bn{i}", epsilon=0.0, **vectors)
    return net.model(y)


def _weights(model: onnx.ModelProto) -> dict[str, NDArray[np.float64]]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


@given(statistics, statistics)
def test_fold_of_fold_is_the_fold_of_the_composition(a: Statistics, b: Statistics) -> None:
    """b(a(x)) = s_b (s_a x + t_a) + t_b: two norms fold to what their product folds to."""
    (s_a, t_a), (s_b, t_b) = (affine_of_statistics(**v, epsilon=0.0) for v in (a, b))
    product = {
        "scale": s_b * s_a, "shift": s_b * t_a + t_b, "mean": np.zeros(4), "variance": np.ones(4)
    }  # fmt: skip
    twice, _ = _folded(_conv_with([a, b]))
    once, _ = _folded(_conv_with([product]))
    for name, array in _weights(once).items():
        np.testing.assert_allclose(_weights(twice)[name], array, rtol=1e-12, atol=1e-12)


@given(statistics)
def test_a_neutral_norm_is_a_no_op(a: Statistics) -> None:
    """1 x + 0 = x, bit for bit."""
    one, zero = np.ones(4), np.zeros(4)
    neutral = {"scale": one, "shift": zero, "mean": zero, "variance": one}
    with_it, _ = _folded(_conv_with([a, neutral]))
    without, _ = _folded(_conv_with([a]))
    for name, array in _weights(without).items():
        np.testing.assert_array_equal(_weights(with_it)[name], array)


@given(statistics, st.sampled_from((2, 4)))
def test_grouped_equals_block_diagonal_dense(a: Statistics, groups: int) -> None:
    """A convolution in groups is the dense one whose other blocks are zero; so are their folds."""
    grouped = _conv_with([a], groups)
    dense = _conv_with([a])
    weight = _weights(grouped)["conv.weight"]
    blocks, size = np.zeros((4, 4, *weight.shape[2:])), 4 // groups
    for i in range(4):
        start = i // size * size
        blocks[i, start : start + size] = weight[i]
    for tensor in dense.graph.initializer:
        if tensor.name == "conv.weight":
            tensor.CopyFrom(numpy_helper.from_array(blocks, tensor.name))
        elif tensor.name == "conv.bias":
            bias = _weights(grouped)["conv.bias"]
            tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
    folded = [_weights(_folded(m)[0]) for m in (grouped, dense)]
    np.testing.assert_array_equal(folded[0]["conv.bias"], folded[1]["conv.bias"])
    for i in range(4):
        start = i // size * size
        block = folded[1]["conv.weight"][i, start : start + size]
        np.testing.assert_array_equal(folded[0]["conv.weight"][i], block)


decisions = st.builds(
    Decision,
    name=st.text(),
    source=st.sampled_from(("batch_norm", "affine")),
    action=st.sampled_from(Action),
    direction=st.none() | st.sampled_from(Direction),
    into=st.lists(st.text()).map(tuple),
    reason=st.none()
    | st.builds(Refusal, st.sampled_from(Reason), st.none() | st.text(), st.text()),
)


@given(decisions)
def test_a_decision_survives_json(decision: Decision) -> None:
    assert Decision.from_json(decision.name, decision.to_json(), decision.source) == decision
