"""An adversary's faults: each once led to a file that was wrong and verified, or ended in a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.algebra.rounding import cast
from bnfold.formats.onnx.edit.edited import OnnxEdited

import importlib
fold_job = importlib.import_module("bnfold.jobs.fold")
from bnfold.planning import Plan, decision, make_plan
from situations.build import Net
from situations.fold import save

Spoil = Callable[[onnx.ModelProto], None]


def _written_wrongly(monkeypatch: pytest.MonkeyPatch, spoil: Spoil) -> None:
    """Everything that is written from now on is spoilt on disk."""
    write = OnnxEdited.write

    def wrongly(self: OnnxEdited, path: Path) -> list[Path]:
        files = write(self, path)
        model = onnx.load(files[-1])
        spoil(model)
        onnx.save(model, files[-1])
        return files

    monkeypatch.setattr(OnnxEdited, "write", wrongly)


def _choosing(condition: float) -> onnx.ModelProto:
    """A BatchNorm that folds, then one of two operators with a body of the same name each."""
    net = Net()
    made = net.bn(net.conv(net.input("N", 3, 8, 8), 3, 4, name="c1"), 4, "b1")
    total = net.op("ReduceSum", made, name="sum", keepdims=0)
    asked = net.op("Greater", total, net.const(np.array(condition)), name="asked")
    bodies = {}
    for branch, op in (("then_branch", "Exp"), ("else_branch", "Tanh")):
        node = helper.make_node(op, [made], [f"{op}_out"], name=op)
        out = helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, None)
        bodies[branch] = helper.make_graph([node], "body", [], [out])
    chosen = net.op("If", asked, name="if", **bodies)
    return net.model(net.op("Mul", chosen, net.const(np.array(0.0)), name="dull"))


def _exchange_branches(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "If")
    names = {"then_branch": "else_branch", "else_branch": "then_branch"}
    for attribute in node.attribute:
        attribute.name = names[attribute.name]


def _fold(model: onnx.ModelProto, folder: Path) -> Any:
    return bnfold.fold(save(model, folder / "m.onnx"), folder / "f.onnx")


def test_exchanged_branches_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _fold(_choosing(1e9), tmp_path).ok
    _written_wrongly(monkeypatch, _exchange_branches)
    (tmp_path / "f.onnx").unlink()
    assert not _fold(_choosing(1e9), tmp_path).ok


def _note(model: onnx.ModelProto) -> None:
    model.graph.node[0].metadata_props.add(key="a", value="b")


def _tell_apart(model: onnx.ModelProto) -> None:
    model.graph.node[-1].overload = "another"


def _retype(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "If")
    node.attribute[0].g.doc_string = "another"


@pytest.mark.parametrize("spoil", [_note, _tell_apart, _retype])
def test_what_stands_beside_a_node_is_compared(
    spoil: Spoil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _written_wrongly(monkeypatch, spoil)
    found = _fold(_choosing(0.0), tmp_path)
    assert not found.ok and found.verification.congruence.differences


def _with_head(net: Net, value: str) -> onnx.ModelProto:
    """A head that shows no difference."""
    return net.model(net.op("Tanh", net.op("Mul", value, net.const(np.array(0.0)), name="m"), name="t"))


def test_a_region_that_takes_everything_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All values are said to change: nothing would leave, and nothing be compared."""
    net = Net()
    made = net.bn(net.conv(net.input("N", 3, 8, 8), 3, 6, name="c1"), 6, "b1")
    source = save(net.model(made), tmp_path / "m.onnx")

    def planned(graph: Any, **options: Any) -> Plan:
        plan = make_plan(graph, **options)
        everything = frozenset(v for node in graph.nodes for v in node.outputs)
        return replace(plan, regions=(everything,))

    monkeypatch.setattr(fold_job, "make_plan", planned)
    monkeypatch.setattr(decision, "cast", lambda values, dtype: cast(values * 1.0000001, dtype))
    found = bnfold.fold(source, tmp_path / "f.onnx")
    assert found.verification.pieces
