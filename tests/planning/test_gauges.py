"""The laws of gauges: the identity changes nothing, choices compose, and a wrong sign is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import bnfold
from bnfold.algebra.running_error import Rounded
from bnfold.formats import format_of
from bnfold.graph import Kind, Node, Opaque
from bnfold.planning import make_plan
from bnfold.planning.gauges import demands
from bnfold.planning.gauges.conflicts import Conflict
from bnfold.planning.gauges.scales import Scales
from bnfold.planning.gauges.shifts import Shifts
from situations.build import Net
from situations.run import error, run_in_double

_NODE = Node("n", "n", Opaque(), [], [])
X = np.random.default_rng(0).standard_normal((2, 4, 6, 6))


def _network(draw: Callable[[st.SearchStrategy[Any]], Any]) -> onnx.ModelProto:
    """A trunk of doubles with pre-activation blocks, gates, identity branches and concatenations."""
    net = Net(dtype=TensorProto.DOUBLE, seed=draw(st.integers(0, 99)))
    x, channels = net.conv(net.input(2, 4, 6, 6), 4, 4, (1, 1), "stem"), 4
    for i in range(draw(st.integers(1, 4))):
        positive = net.rng.uniform(0.5, 1.5, channels)
        signs = np.where(net.rng.uniform(size=channels) < draw(st.sampled_from((0, 0, 0.3))), -1, 1)
        y = net.bn(x, channels, f"bn{i}", scale=positive * signs)
        if draw(st.booleans()):
            y = net.relu(y, f"relu{i}")
        form = draw(st.sampled_from(("add", "add", "gate", "concat", "pool", "negate")))
        branch = net.conv(y, channels, channels, (3, 3), f"conv{i}", pads=[1] * 4)
        if form == "gate":
            gate = net.op(
                "Sigmoid", net.op("GlobalAveragePool", y, name=f"gap{i}"), name=f"gate{i}"
            )
            branch = net.op("Mul", branch, gate, name=f"mul{i}")
        if form == "pool":
            branch = net.op("MaxPool", branch, name=f"pool{i}", kernel_shape=[3, 3], pads=[1] * 4)
        if form == "concat":
            x, channels = net.op("Concat", x, branch, name=f"cat{i}", axis=1), 2 * channels
        else:
            x = net.op("Sub" if form == "negate" else "Add", x, branch, name=f"sum{i}")
    x = net.relu(net.bn(x, channels, "last", scale=1.0), "end") if draw(st.booleans()) else x
    return net.model(net.conv(x, channels, 3, (1, 1), "head"))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_folds_computes_the_same(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder: Path = tmp_path_factory.mktemp("gauges")
    source, target = folder / "a.onnx", folder / "b.onnx"
    onnx.save(_network(data.draw), source)
    model = bnfold.load(source)
    plan = make_plan(model.graph)
    without = make_plan(model.graph, gauges=False)
    assert plan.kept <= without.kept
    format_of(model).edit(model, plan).write(target)
    feeds = {"x": X}
    assert (
        error(run_in_double(onnx.load(source), feeds), run_in_double(onnx.load(target), feeds))
        < 1e-11
    )


def test_the_identity_needs_nothing(tmp_path: Path) -> None:
    net = Net()
    ones: dict[str, Any] = {
        "scale": 1.0,
        "shift": 0.0,
        "mean": 0.0,
        "variance": 1.0,
        "epsilon": 0.0,
    }
    x = net.conv(net.input(1, 4, 6, 6), 4, 4, (1, 1), "stem")
    y = net.conv(net.relu(net.bn(x, 4, **ones)), 4, 4, (1, 1), "c")
    path = tmp_path / "n.onnx"
    onnx.save(net.model(net.op("Add", x, y, name="sum")), path)
    plan = make_plan(bnfold.load(path).graph)
    assert plan.kept == 0
    assert [type(e).__name__ for e in plan.edits] == ["Bypass"]


def _exact(numbers: list[float]) -> Rounded:
    return Rounded.exact(np.array(numbers))


def test_scales_compose_and_a_wrong_sign_is_found() -> None:
    scales, node = Scales([2] * 3, [1] * 3, 40.0), _NODE
    scales.relate(1, 0, _exact([2.0, -3.0]), node)
    scales.relate(2, 1, _exact([5.0, 7.0]), node)
    mark = scales.mark()
    scales.relate(2, 0, _exact([10.0, -21.0]), node)
    with pytest.raises(Conflict) as found:
        scales.relate(2, 0, _exact([10.0, 21.0]), node)
    assert found.value.where.tolist() == [False, True]
    scales.positive(0, node)
    with pytest.raises(Conflict) as found:
        scales.positive(2, node)
    assert found.value.where.tolist() == [False, True]
    scales.back_to(mark)
    scales.positive(2, node)
    assert np.allclose(scales.values()[2] / scales.values()[0], [10, -21])
    assert (scales.values()[2] > 0).all()


def test_shifts_are_eliminated_and_taken_back() -> None:
    shifts, node, one = Shifts([1] * 4, [2, 2, 1, 1]), _NODE, _exact([1.0])
    shifts.add({0: one, 2: one, 1: -one}, _exact([0.0]), node)
    shifts.add({1: one}, _exact([3.0]), node)
    mark = shifts.mark()
    shifts.add({0: one}, one, node)
    assert [float(v[0]) for v in shifts.values()[:3]] == [1.0, 3.0, 2.0]
    with pytest.raises(Conflict):
        shifts.add({2: one}, _exact([5.0]), node)
    shifts.back_to(mark)
    shifts.add({2: one}, _exact([5.0]), node)
    assert [float(v[0]) for v in shifts.values()[:3]] == [-2.0, 3.0, 5.0]


def _no_shift_may_pass(shift: float, mean: float) -> onnx.ModelProto:
    """What comes in is a graph output, what goes out is rectified: only a scale may go."""
    net = Net(dtype=TensorProto.DOUBLE)
    y = net.op("Gemm", net.input(2, 4), net.weight(4, 4), net.weight(4), name="stem")
    scale = np.array([0.5, 1.0, 1.5, 2.0])
    moved = scale / np.sqrt(2.0) * mean + shift
    z = net.relu(net.bn(y, 4, scale=scale, shift=moved, mean=mean, variance=2.0, epsilon=0.0))
    return net.model(net.op("Gemm", z, net.weight(4, 4), net.weight(4), name="head"), y)


@pytest.mark.parametrize("mean", [0.0, 0.3])
@pytest.mark.parametrize("shift", [0.0, 1e-17, 4e-16, 4e-15, 1e-14, 4e-13, 1e-11])
def test_plan_and_proof_agree_on_a_shift_that_almost_cancels(
    shift: float, mean: float, tmp_path: Path
) -> None:
    """In float64 a shift counts as none where it is rounding, and only there."""
    source = tmp_path / "a.onnx"
    onnx.save(_no_shift_may_pass(shift, mean), source)
    result = bnfold.fold(source, tmp_path / "b.onnx")
    assert result.ok, result.to_json()["verification"]
    if shift < 1e-16:
        assert result.plan.kept == 0
    if shift > 5e-15:
        assert result.plan.kept == 1


@pytest.mark.parametrize(("more", "left"), [(0.0, 0), (3e-13, 1)])
def test_plan_and_proof_agree_on_scales_that_are_almost_one(
    more: float, left: int, tmp_path: Path
) -> None:
    """Both sides of the norm are graph outputs: it goes where it is the identity, to within rounding."""
    net = Net(dtype=TensorProto.DOUBLE)
    y = net.op("Gemm", net.input(2, 4), net.weight(4, 4), name="stem")
    scale = np.sqrt(2.0) * (1 + more)
    z = net.relu(net.bn(y, 4, scale=scale, shift=0.0, mean=0.0, variance=2.0, epsilon=0.0))
    source = tmp_path / "a.onnx"
    onnx.save(net.model(y, net.op("Gemm", z, net.weight(4, 4), name="head"), z), source)
    result = bnfold.fold(source, tmp_path / "b.onnx")
    assert result.ok and result.plan.kept == left


def test_every_kind_says_which_gauges_it_allows() -> None:
    """One that says nothing would be taken for opaque, and nobody would notice."""
    assert set(get_args(Kind)) - {Opaque} == demands._STATES.keys() - {Opaque}
