"""The laws of gauges: the identity changes nothing, choices compose, and a wrong sign is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import bnfold
from bnfold.algebra.running_error import Rounded
from bnfold.formats import format_of
from bnfold.graph import Node
from bnfold.kinds import Kind, Opaque
from bnfold.planning import make_plan
from bnfold.planning.gauges import demands
from bnfold.planning.gauges.conflicts import Conflict
from bnfold.planning.gauges.scales import Scales
from bnfold.planning.gauges.shifts import Shifts
from situations.build import Net
from situations.run import error, run_in_double

_NODE = Node("n", "n", Opaque(), [], [])
X = np.random.default_rng(0).standard_normal((2, 4, 6, 6))


def _branch(net: Net, form: str, i: int, y: str, channels: int) -> str:
    """What a block makes of its activated values."""
    if form == "einsum":
        weight = net.weight(channels, channels)
        return net.op("Einsum", y, weight, name=f"einsum{i}", equation="nchw,oc->nohw")
    if form == "attention":
        rows = net.op("Reshape", y, net.ints(0, 0, -1), name=f"flat{i}")
        keys = net.op("Transpose", rows, name=f"keys{i}", perm=[0, 2, 1])
        scores = net.op("MatMul", rows, keys, name=f"scores{i}")
        weights = net.op("Softmax", scores, name=f"softmax{i}", axis=-1)
        mixed = net.op("MatMul", weights, rows, name=f"mixed{i}")
        size = net.ints(0, 0, 6, 6)
        y = net.op("Reshape", mixed, size, name=f"unflat{i}")
        return net.conv(y, channels, channels, (1, 1), f"conv{i}")
    kernel = 1 if form == "pointwise" else 3
    pads = [kernel // 2] * 4
    branch = net.conv(y, channels, channels, (kernel, kernel), f"conv{i}", pads=pads)
    if form == "gate":
        squeezed = net.op("GlobalAveragePool", y, name=f"gap{i}")
        return net.op("Mul", branch, net.op("Sigmoid", squeezed, name=f"gate{i}"), name=f"mul{i}")
    if form == "factors":
        return net.op("Mul", branch, net.op("Abs", y, name=f"abs{i}"), name=f"mul{i}")
    if form == "pool":
        return net.op("MaxPool", branch, name=f"pool{i}", kernel_shape=[3, 3], pads=[1] * 4)
    return branch


_FORMS = (
    *("add", "add", "gate", "concat", "pool", "negate"),
    *("mean", "einsum", "attention", "factors", "pointwise"),
)


def _network(draw: Callable[[st.SearchStrategy[Any]], Any]) -> onnx.ModelProto:
    """A trunk of doubles with pre-activation blocks, gates, attention, means and concatenations."""
    net = Net(dtype=TensorProto.DOUBLE, seed=draw(st.integers(0, 99)))
    x, channels = net.conv(net.input(2, 4, 6, 6), 4, 4, (1, 1), "stem"), 4
    for i in range(draw(st.integers(1, 4))):
        scale = net.rng.uniform(0.5, 1.5, channels)
        scale[net.rng.uniform(size=channels) < draw(st.sampled_from((0, 0, 0.3)))] *= -1
        scale[net.rng.uniform(size=channels) < draw(st.sampled_from((0, 0, 0.5)))] = 0
        shift = draw(st.sampled_from(({}, {}, {"shift": 0.0, "mean": 0.0})))
        y = net.bn(x, channels, f"bn{i}", scale=scale, **shift)
        if draw(st.booleans()):
            y = net.op(draw(st.sampled_from(("Relu", "LeakyRelu", "Abs"))), y, name=f"relu{i}")
        form = draw(st.sampled_from(_FORMS))
        branch = _branch(net, form, i, y, channels)
        if form == "concat":
            x, channels = net.op("Concat", x, branch, name=f"cat{i}", axis=1), 2 * channels
        else:
            op = {"negate": "Sub", "mean": "Mean"}.get(form, "Add")
            x = net.op(op, x, branch, name=f"sum{i}")
    x = net.relu(net.bn(x, channels, "last", scale=1.0), "end") if draw(st.booleans()) else x
    return net.model(net.conv(x, channels, 3, (1, 1), "head"))


def _difference(model: onnx.ModelProto, folder: Path) -> float:
    """How far the fold is from its original, on a batch."""
    source, target = folder / "a.onnx", folder / "b.onnx"
    onnx.save(model, source)
    opened = bnfold.load(source)
    plan = make_plan(opened.graph)
    assert plan.kept <= make_plan(opened.graph, gauges=False).kept
    format_of(opened).edit(opened, plan).write(target)
    return error(
        run_in_double(onnx.load(source), {"x": X}), run_in_double(onnx.load(target), {"x": X})
    )


networks = st.composite(_network)


@settings(max_examples=20, deadline=None)
@given(model=networks())
def test_what_folds_computes_the_same(
    model: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert _difference(model, tmp_path_factory.mktemp("gauges")) < 1e-11


_PLANTED: dict[str, tuple[str, Any]] = {
    "a rectifier passes any sign": ("laws.Laws.positive", lambda *_: None),
    "padding takes a shift": ("laws.Laws.no_shift", lambda *_: None),
    "a constant is none": ("constants.levels", lambda node, _: np.zeros(node.kind.channels)),
    "a constant goes anywhere": (
        "constants.Obstacles.stand_in_the_way",
        lambda _, cells, levels: np.zeros(cells.shape, bool),
    ),
}


@pytest.mark.parametrize("bug", _PLANTED)
def test_the_property_finds_a_planted_bug(
    bug: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place, wrong = _PLANTED[bug]
    monkeypatch.setattr(f"bnfold.planning.gauges.{place}", wrong)

    def fails(model: onnx.ModelProto) -> bool:
        try:
            return _difference(model, tmp_path) > 1e-11
        except (AssertionError, ValueError):
            return True

    quick = settings(
        max_examples=300, database=None, derandomize=True, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    find(networks(), fails, settings=quick)


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
