"""An adversary's faults: each once led to a file that was wrong and verified, or ended in a crash."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file

import bnfold
from bnfold.formats.onnx.edit.edited import OnnxEdited
from bnfold.formats.torch.edit.edited import TorchEdited
from bnfold.formats.torch.run.fold import TorchFold
from bnfold.planning import Plan, make_plan
from situations.build import Net
from situations.fold import save

fold_job = importlib.import_module("bnfold.jobs.fold")
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
    found: Any = bnfold.fold(source, tmp_path / "f.onnx")
    assert [piece.name for piece in found.verification.pieces] == ["b1_out"]


class _Layers(torch.nn.Module):
    """Layers of equal shape, and a head that shows no difference."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = torch.nn.Conv2d(3, 6, 3)
        self.b1 = torch.nn.BatchNorm2d(6)
        self.c2 = torch.nn.Conv2d(6, 6, 1)
        self.c3 = torch.nn.Conv2d(6, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.c3(self.c2(torch.relu(self.b1(self.c1(x)))))
        return torch.sigmoid(torch.relu(y) + 40)


def _program(folder: Path) -> Path:
    torch.manual_seed(0)
    exported = torch.export.export(_Layers().eval(), (torch.randn(2, 3, 8, 8),))
    torch.export.save(exported, folder / "m.pt2")
    return folder / "m.pt2"


def _lose(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["c2.weight"]


def _add(tensors: dict[str, torch.Tensor]) -> None:
    tensors["another"] = torch.zeros(1)


@pytest.mark.parametrize("spoil", [_lose, _add])
def test_a_state_dict_holds_what_it_should(
    spoil: Callable[[dict[str, torch.Tensor]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = TorchEdited._write_tensors

    def wrongly(self: TorchEdited, path: Path) -> None:
        write(self, path)
        tensors = load_file(path)
        spoil(tensors)
        save_file(tensors, path)

    source = _program(tmp_path)
    assert bnfold.fold(source, tmp_path / "f.safetensors").ok
    monkeypatch.setattr(TorchEdited, "_write_tensors", wrongly)
    assert not bnfold.fold(source, tmp_path / "wrong.safetensors").ok


def test_an_exported_file_stores_what_the_program_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outputs show nothing, and the pieces are those of the program."""
    write = TorchEdited._write_onnx

    def wrongly(self: TorchEdited, path: Path) -> None:
        write(self, path)
        model = onnx.load(path)
        tensor = next(t for t in model.graph.initializer if t.name == "c3.weight")
        array = numpy_helper.to_array(tensor) * np.float32(1.5)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        onnx.save(model, path)

    source = _program(tmp_path)
    assert bnfold.fold(source, tmp_path / "f.onnx").ok
    monkeypatch.setattr(TorchEdited, "_write_onnx", wrongly)
    found: Any = bnfold.fold(source, tmp_path / "wrong.onnx")
    assert not found.ok and "c3.weight" in str(found.verification.congruence.differences)


class _Forked(torch.nn.Module):
    """Its first result is read once more, where no output shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.b = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
        self.seen: torch.Tensor
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: torch.Tensor, flag: bool) -> Any:
        y = self.c(x)
        if flag:
            self.seen.add_(1.0)
        return self.b(y), torch.sigmoid(y) * 0.0


def _forked(folder: Path, **options: Any) -> Path:
    torch.manual_seed(0)
    batch = torch.export.Dim("batch", min=2, max=64)
    args = (torch.randn(2, 3, 8, 8), True)
    exported = torch.export.export(_Forked().eval(), args, dynamic_shapes=({0: batch}, None))
    torch.export.save(exported, folder / "m.pt2")
    return folder / "m.pt2"


@pytest.mark.parametrize("keep_modules", [False, True])
def test_a_reader_in_a_program_that_the_plan_does_not_know_of_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_modules: bool
) -> None:
    def planned(graph: Any, **options: Any) -> Plan:
        for value in (v for node in graph.nodes for v in node.outputs):
            value.readers[:] = [node for node in value.readers if node.op != "sigmoid"]
        return make_plan(graph, **options)

    name = "f.safetensors" if keep_modules else "f.pt2"
    source = _forked(tmp_path)
    assert bnfold.fold(source, tmp_path / name, keep_modules=keep_modules).ok
    monkeypatch.setattr(fold_job, "make_plan", planned)
    found: Any = bnfold.fold(source, tmp_path / f"wrong_{name}", keep_modules=keep_modules)
    assert not found.ok and "sigmoid" in str(found.verification.congruence.differences)


def _narrow(program: Any) -> None:
    constraints = program.range_constraints
    for symbol, known in constraints.items():
        constraints[symbol] = type(known)(known.lower, 32)


def _write_elsewhere(program: Any) -> None:
    for spec in program.graph_signature.output_specs:
        if spec.target == "seen":
            spec.target = "b.running_mean"


def _fix_otherwise(program: Any) -> None:
    for spec in program.graph_signature.input_specs:
        if hasattr(spec.arg, "value"):
            spec.arg.value = 7


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (_narrow, "which sizes are allowed"),
        (_write_elsewhere, "what it writes"),
        (_fix_otherwise, "which arguments are fixed"),
    ],
)
def test_what_a_program_demands_and_writes_is_compared(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Any], None],
    fact: str,
) -> None:
    source = _forked(tmp_path)
    sound: Any = bnfold.fold(source, tmp_path / "f.pt2")
    assert sound.ok and sound.verification.congruence.passed
    read_back = TorchFold._read_back

    def wrongly(self: TorchFold, written: Path | None) -> Any:
        found = read_back(self, written)
        spoil(found.runner.program)
        return found

    monkeypatch.setattr(TorchFold, "_read_back", wrongly)
    found: Any = bnfold.fold(source, tmp_path / "wrong.pt2")
    assert not found.ok and fact in str(found.verification.congruence.differences)


def test_a_reader_that_the_plan_does_not_know_of_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the value before the BatchNorm, which is another one after the fold."""
    net = Net()
    made = net.conv(net.input("N", 3, 8, 8), 3, 4, name="c1")
    other = net.op("Mul", net.op("Sigmoid", made, name="lost"), net.const(np.array(0.0)), name="m")
    source = save(net.model(net.bn(made, 4, "b1"), other), tmp_path / "m.onnx")

    def planned(graph: Any, **options: Any) -> Plan:
        for value in (v for node in graph.nodes for v in node.outputs):
            value.readers[:] = [node for node in value.readers if node.name != "lost"]
        return make_plan(graph, **options)

    assert bnfold.fold(source, tmp_path / "f.onnx").ok
    monkeypatch.setattr(fold_job, "make_plan", planned)
    found: Any = bnfold.fold(source, tmp_path / "wrong.onnx")
    assert not found.ok and "lost" in str(found.verification.congruence.differences)
