"""Networks with quantised weights and values: honest folds pass, planted faults do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import bnfold
from bnfold.algebra.quantisation import Grid, multiplied
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.run.inference import OnnxRuns
from bnfold.formats.onnx.run.session import Session
from bnfold.planning import quantised
from bnfold.proof.steps import agree_to_a_step
from situations.build import Net
from situations.fold import save, spoil_written
from situations.quantised import dequantised, rounded

Head = Callable[[Net, str], str]
HEADS: dict[str, Head] = {
    "scores": lambda net, y: y,
    "steps": lambda net, y: rounded(net, y, 0.05, "out"),
    "integers": lambda net, y: net.op(
        "QuantizeLinear", y, net.const(np.float32(0.05)), net.const(np.uint8(128)), name="out"
    ),
    "ArgMax": lambda net, y: net.op("ArgMax", y, name="out", axis=1),
}
_UNSIGNED = (np.uint8, (0.002, 0.003, 0.001, 0.0025, 0.003, 0.002), (128, 120, 0, 255, 128, 7))
_SIGNED = (np.int8, 0.004, 0)
INPUT, FIRST, SECOND = 0.05, 0.004, 0.003


def network(head: str = "scores", first: tuple[Any, Any, Any] = _SIGNED) -> onnx.ModelProto:
    """Two layers, both with a BatchNorm; the first keeps its bias in steps of what it adds up."""
    net = Net()
    x = rounded(net, net.input("N", 3, 8, 8), INPUT)
    more = {"axis": 0} if np.ndim(first[1]) else {}
    weight = dequantised(net, (6, 3, 3, 3), first, "w1", **more)
    steps = net.const(INPUT * np.broadcast_to(np.asarray(first[1]), (6,)))
    integers = net.const(net.rng.integers(-999, 999, 6), dtype=np.int32)
    bias = net.op("DequantizeLinear", integers, steps, name="bias1", axis=0)
    y = net.bn(net.op("Conv", x, weight, bias, name="c1"), 6, "b1")
    y = rounded(net, net.relu(y, "r1"), 0.03, "middle")
    weight = dequantised(net, (5, 6, 3, 3), (np.int8, SECOND, 0), "w2")
    y = net.relu(net.bn(net.op("Conv", y, weight, name="c2"), 5, "b2"), "r2")
    y = net.op("Flatten", net.op("GlobalAveragePool", y, name="pool"), name="flat")
    return net.model(HEADS[head](net, y))


FIRSTS = {"signed": _SIGNED, "unsigned": _UNSIGNED}


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("head", HEADS)
def test_an_honest_fold_passes(head: str, first: str, tmp_path: Path) -> None:
    source = save(network(head, FIRSTS[first]), tmp_path / "m.onnx")
    result = bnfold.fold(source, tmp_path / "f.onnx")
    assert result.ok, result.to_json()["verification"]
    assert result.plan.kept == 0
    names = [n.op_type for n in onnx.load(tmp_path / "f.onnx").graph.node]
    assert names.count("DequantizeLinear") == 5 + (head == "steps")  # the first bias stays one


def _channel(change: Callable[[Any], Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Changes the second channel."""

    def changed(array: NDArray[Any]) -> NDArray[Any]:
        result: NDArray[Any] = array.copy()
        result[1] = change(result[1])
        return result

    return changed


GRIDS: dict[str, Callable[[Grid], Grid]] = {
    "a row with the wrong sign": lambda g: replace(g, integers=_channel(np.negative)(g.integers)),
    "one integer": lambda g: replace(g, integers=_channel(lambda r: r + (r == r[0, 0, 0]))(g.integers)),
    "two rows swapped": lambda g: replace(g, integers=g.integers[[1, 0, *range(2, len(g.integers))]]),
    "a scale by 1 in 10,000": lambda g: replace(g, scale=_channel(lambda s: s * 1.0001)(g.scale)),
    "a scale with its sign": lambda g: replace(g, scale=_channel(np.negative)(g.scale)),
    "a zero point": lambda g: replace(g, zero=_channel(lambda z: z ^ 1)(g.zero)),
}  # fmt: skip


@pytest.mark.parametrize("fault", GRIDS)
@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("head", HEADS)
def test_a_fault_in_the_planner_is_found(
    head: str, first: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first weight is computed wrongly, each time that it is computed."""

    def wrongly(grid: Grid, *rest: Any) -> Grid:
        result = multiplied(grid, *rest)
        return GRIDS[fault](result) if len(result.integers) == 6 else result

    monkeypatch.setattr(quantised, "multiplied", wrongly)
    source = save(network(head, FIRSTS[first]), tmp_path / "m.onnx")
    result = bnfold.fold(source, tmp_path / "f.onnx")
    assert not result.ok and result.verification is not None
    assert result.verification.first_wrong == "b1_out"


@pytest.mark.parametrize("head", HEADS)
def test_a_bias_one_step_off_is_found(
    head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a step is what an honest one may be off."""
    in_steps = quantised._in_steps

    def wrongly(*given: Any) -> Grid | None:
        found = in_steps(*given)
        return found and replace(found, integers=_channel(lambda b: b + 1)(found.integers))

    monkeypatch.setattr(quantised, "_in_steps", wrongly)
    source = save(network(head), tmp_path / "m.onnx")
    result = bnfold.fold(source, tmp_path / "f.onnx")
    assert not result.ok and result.verification is not None
    assert result.verification.first_wrong == "b1_out"


@pytest.mark.parametrize("which", range(8))
def test_a_fault_in_a_written_tensor_is_found(
    which: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last element of one of the tensors in front of the first layer."""

    def shift_last(model: onnx.ModelProto) -> None:
        nodes = {n.name: n for n in model.graph.node}
        names = dict.fromkeys(
            name
            for n in ("x_quantize", "w1", "bias1", "middle_quantize")
            for name in nodes[n].input
        )
        stored = [t for t in model.graph.initializer if t.name in names]
        array = numpy_helper.to_array(stored[which]).copy()
        array.reshape(-1)[-1:] += 1 if array.dtype.kind in "iu" else 1e-4
        stored[which].CopyFrom(numpy_helper.from_array(array, stored[which].name))

    spoil_written(monkeypatch, shift_last)
    result = bnfold.fold(save(network(), tmp_path / "m.onnx"), tmp_path / "f.onnx")
    assert not result.ok and result.verification is not None
    assert result.verification.congruence is not None
    assert result.verification.congruence.differences


def test_the_axis_of_the_scales_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many input channels as output channels: nothing but the values shows it."""
    net = Net()
    weight = dequantised(net, (4, 4, 1, 1), _SIGNED)
    y = net.op("Conv", net.input("N", 4, 8, 8), weight, name="conv")
    source = save(net.model(net.relu(net.bn(y, 4))), tmp_path / "m.onnx")
    assert bnfold.fold(source, tmp_path / "f.onnx").ok
    monkeypatch.setattr(quantised, "multiplied", lambda *g: replace(multiplied(*g), axis=1))
    result = bnfold.fold(source, tmp_path / "g.onnx")
    assert not result.ok and result.verification is not None
    assert result.verification.first_wrong == "bn_out"


def test_a_step_here_and_there_is_agreement_and_two_are_not(tmp_path: Path) -> None:
    """Outputs in steps: one that is off by one, as rounding may have it, and one by two."""
    net = Net()
    source = save(net.model(rounded(net, net.input("N", 3, 8, 8))), tmp_path / "m.onnx")
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    own = Session(source).run(feeds)
    (name,) = own
    for steps, agree in ((1, True), (2, False)):
        other = own[name].copy()
        other[0, 1, 2, 3] += steps * 0.05
        runs = OnnxRuns(OnnxModel(source))
        assert agree_to_a_step(runs, feeds, own, {name: other}, [name]) is agree


def test_nothing_is_a_step_where_nothing_is_rounded(tmp_path: Path) -> None:
    net = Net()
    source = save(net.model(net.relu(net.input("N", 3, 8, 8))), tmp_path / "m.onnx")
    feeds = {"x": np.ones((1, 3, 8, 8), np.float32)}
    own = Session(source).run(feeds)
    assert not agree_to_a_step(OnnxRuns(OnnxModel(source)), feeds, own, own, list(own))


def test_scales_and_biases_of_one_size_do_not_move_as_one(tmp_path: Path) -> None:
    """Moved by one factor, all of a layer and of its norm, a small value would seem to have no floor."""
    model = OnnxModel(save(network(), tmp_path / "m.onnx"))
    fed = OnnxRuns(
        model, list(model.graph.norms) + [n for n in model.graph.nodes if n.op == "Conv"]
    ).fed
    moved = fed.feeds([*fed.factors, "b1.scale", "b1.mean"], 0)
    plain = fed.feeds(moved)
    signs = [
        np.sign(moved[n] - plain[n]) * np.sign(plain[n]) for n in moved if plain[n].shape == (6,)
    ]
    assert len(signs) == 3
    assert not (signs[0] == signs[1]).all() and not (signs[0] == signs[2]).all()
