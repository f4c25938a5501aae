"""BatchNorm in a row: the walks jump over what they have passed, and still see who else reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import bnfold
from bnfold.planning import make_plan
from situations.build import Net
from situations.fold import save
from situations.run import error, feeds_for, run_in_double

_EVEN: dict[str, Any] = {
    "scale": 1.0,
    "shift": 0.0,
    "mean": 0.0,
    "variance": 1.0,
    "epsilon": 0.0,
}
_HEADS = ("conv", "relu", "output")


def _row(
    kinds: list[str], head: str, stem: bool, readers: list[int], dtype: int = TensorProto.DOUBLE
) -> onnx.ModelProto:
    net = Net(dtype=dtype)
    x = net.input(1, 4, 5, 5)
    x = net.conv(x, 4, 4, (1, 1), "stem") if stem else net.op("Sigmoid", x, name="start")
    values = [x]
    for i, kind in enumerate(kinds):
        settings = _EVEN if kind == "identity" else {"shift": 0.0, "mean": 0.0}
        values.append(net.bn(values[-1], 4, f"bn{i}", **({} if kind == "any" else settings)))
    ends = [net.op("Tanh", values[i], name=f"read{i}") for i in readers]
    if head == "conv":
        values.append(net.conv(values[-1], 4, 4, (3, 3), "head", pads=[1] * 4))
    if head == "relu":
        values.append(net.relu(values[-1], "head"))
    return net.model(values[-1], *ends)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_row_computes_the_same(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kinds = data.draw(
        st.lists(st.sampled_from(("any", "scale", "identity")), min_size=2, max_size=7)
    )
    readers = data.draw(st.sets(st.integers(0, len(kinds)), max_size=2))
    model = _row(kinds, data.draw(st.sampled_from(_HEADS)), data.draw(st.booleans()), [*readers])
    path = save(model, tmp_path_factory.mktemp("row") / "a.onnx")
    bnfold.fold(path, path.with_name("b.onnx"), verify=False)
    after = onnx.load(path.with_name("b.onnx"))
    for feeds in feeds_for(model, ((1, 5),)):
        assert error(run_in_double(model, feeds), run_in_double(after, feeds)) < 1e-11


@pytest.mark.parametrize("head", _HEADS)
@pytest.mark.parametrize("stem", [False, True])
def test_a_row_is_proved(head: str, stem: bool, tmp_path: Path) -> None:
    kinds = ["any", "identity", "scale", "any", "any", "identity", "any"]
    path = save(_row(kinds, head, stem, [], TensorProto.FLOAT), tmp_path / "a.onnx")
    result = bnfold.fold(path, tmp_path / "b.onnx")
    assert result.ok and result.to_json()["verification"]["passed"]


def test_every_value_of_a_row_is_a_changed_one(tmp_path: Path) -> None:
    """Also the one between a norm that does nothing and the rest, which no walk has changed before."""
    path = save(
        _row(["any", "identity", "any", "any", "any"], "output", True, []), tmp_path / "a.onnx"
    )
    graph = bnfold.load(path).graph
    plan = make_plan(graph)
    assert plan.kept == 0
    changed = {value.name for region in plan.regions for value in region}
    assert changed == {"stem_out", *(f"bn{i}_out" for i in range(4))}


def test_a_jump_passes_no_other_reader(tmp_path: Path) -> None:
    """A slice reads only what `bn1` leaves as it is; `bn2` must not be carried past it."""
    net = Net()
    start = net.bn(net.conv(net.input(1, 4, 5, 5), 4, 4, (1, 1), "stem"), 4, "bn0")
    one = net.bn(start, 4, "bn1", **{**_EVEN, "scale": [2.0, 1.0, 1.0, 1.0]})
    part = net.op("Slice", start, *map(net.ints, (1, 4, 1)), name="part")
    end = net.op("Sigmoid", net.bn(one, 4, "bn2"), name="end")
    path = save(net.model(end, net.op("Tanh", part, name="tanh")), tmp_path / "a.onnx")
    decisions = {d.name: d for d in make_plan(bnfold.load(path).graph).decisions}
    assert decisions["bn2"].reason and decisions["bn2"].reason.culprit == "Slice 'part'"
    assert decisions["bn0"].into == decisions["bn1"].into == ("stem",)
