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
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file

import bnfold
from bnfold.algebra.rounding import cast
from bnfold.formats.torch.edit.edited import TorchEdited
from bnfold.formats.torch.run.fold import TorchFold
from bnfold.planning import Plan, decision, make_plan
from situations.build import Net, body
from situations.fold import Spoil, save, spoil_written

fold_job = importlib.import_module("bnfold.jobs.fold")


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
    spoil_written(monkeypatch, _exchange_branches)
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
    spoil_written(monkeypatch, spoil)
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


def _rounds(count: int) -> onnx.ModelProto:
    """A layer that folds, and another in a loop whose sizes nobody knows."""
    net, inner = Net(), Net(seed=1)
    x = net.input("N", 4, "H", "W")
    inner.inputs += [
        helper.make_tensor_value_info("round", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
    ]
    y = inner.bn(inner.conv("state", 4, 4, (1, 1), "conv_1"), 4, "bn_1")
    y = inner.op("Tanh", y, name="tanh")
    inner.op("Identity", "go", name="on")
    loop = body(inner, "on_out", y)
    loop.output[0].type.tensor_type.elem_type = TensorProto.BOOL
    many, flag = net.const(np.array(count, np.int64)), net.const(np.array(True))
    outer = net.bn(net.conv(x, 4, 4, (1, 1), "conv_0"), 4, "bn_0")
    return net.model(net.op("Loop", many, flag, outer, name="loop", body=loop))


def test_a_body_that_never_runs_is_not_vouched_for_by_others(tmp_path: Path) -> None:
    """The output shows the layer before the loop, and nothing of the one inside."""
    assert _fold(_rounds(3), tmp_path).ok
    (tmp_path / "f.onnx").unlink()
    found = _fold(_rounds(0), tmp_path)
    assert not found.ok and not found.verification.differs
    assert any(output.informs for output in found.verification.outputs)
    shown = {piece.name: bool(piece.seen_in) for piece in found.verification.pieces}
    assert shown == {"bn_0_out": False, "bn_1_out": False}
    assert [p.name for p in found.verification.pieces if not p.informs] == ["bn_1_out"]


def _spoilt(shape: tuple[int, ...], part: Any) -> Callable[[Any, Any], Any]:
    """A planner that computes some elements of a weight of one shape wrongly."""

    def wrongly(values: Any, dtype: Any) -> Any:
        result = cast(values, dtype)
        if result.shape == shape:
            result = result.copy()
            result[part] *= 1.5
        return result

    return wrongly


def test_a_region_does_not_reach_behind_an_activation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All values are said to change, and a saturated activation hides the layer in front of it."""
    net = Net()
    made = net.bn(net.conv(net.input("N", 3, 8, 8), 3, 6, name="c1"), 6, "b1")
    dull = net.op("Sigmoid", net.op("Add", made, net.const(np.array(90.0)), name="far"), name="s")
    source = save(net.model(net.bn(net.conv(dull, 6, 5, name="c2"), 5, "b2")), tmp_path / "m.onnx")

    def planned(graph: Any, **options: Any) -> Plan:
        plan = make_plan(graph, **options)
        return replace(plan, regions=(frozenset(v for n in graph.nodes for v in n.outputs),))

    monkeypatch.setattr(fold_job, "make_plan", planned)
    assert bnfold.fold(source, tmp_path / "f.onnx").ok
    monkeypatch.setattr(decision, "cast", _spoilt((6, 3, 3, 3), 0))
    found: Any = bnfold.fold(source, tmp_path / "wrong.onnx")
    assert not found.ok and found.verification.first_wrong == "far_out"


def test_a_rectifier_that_is_dead_on_all_data_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the next layer makes of a channel that is far below zero is computed wrongly."""
    net = Net()
    trunk = net.conv(net.input("N", 3, 8, 8), 3, 4, (1, 1), "stem")
    scale, shift = np.array([0.7, 1.3, 0.9, 1.1]), np.array([0.5, -20, 0.2, 0.1])
    normal = net.bn(trunk, 4, "b1", scale=scale, shift=shift)
    made = net.conv(net.relu(normal), 4, 4, (1, 1), "c1")
    total = net.op("Add", trunk, made, name="add")
    source = save(net.model(net.conv(total, 4, 2, (1, 1), "head")), tmp_path / "m.onnx")
    result = bnfold.fold(source, tmp_path / "f.onnx")
    assert result.ok and result.plan.kept == 0
    monkeypatch.setattr(decision, "cast", _spoilt((4, 4, 1, 1), (slice(None), 1)))
    found: Any = bnfold.fold(source, tmp_path / "wrong.onnx")
    assert not found.ok
    wrong = [piece for piece in found.verification.pieces if not piece.passed]
    assert [piece.excitation for piece in wrong] == ["wide"]


class _Recurrent(torch.nn.Module):
    """Of the three results of the LSTM one is read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv1d(4, 8, 3), torch.nn.BatchNorm1d(8)
        self.lstm = torch.nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(self.norm(self.conv(x)).transpose(1, 2))
        last: torch.Tensor = y[:, -1]
        return last


@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_results_that_nobody_reads_may_come_and_go(tmp_path: Path) -> None:
    """``torch.export`` picks them in the file, and not in memory."""
    exported = torch.export.export(_Recurrent().eval(), (torch.randn(2, 4, 12),))
    torch.export.save(exported, tmp_path / "m.pt2")
    result: Any = bnfold.fold(tmp_path / "m.pt2", tmp_path / "f.pt2")
    assert result.ok, result.verification.congruence.differences


def test_an_exported_file_computes_what_the_program_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outputs show nothing, every tensor is right, and one operator is another."""
    write = TorchEdited._write_onnx

    def wrongly(self: TorchEdited, path: Path) -> None:
        write(self, path)
        model = onnx.load(path)
        next(n for n in model.graph.node if n.op_type == "Relu").op_type = "Abs"
        onnx.save(model, path)

    source = _program(tmp_path)
    honest: Any = bnfold.fold(source, tmp_path / "f.onnx")
    assert honest.ok and not any(output.informs for output in honest.verification.outputs)
    shown = [(p.name, p.informs) for p in honest.verification.pieces if p.excitation == "exported"]
    assert shown == [("b1", True)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.onnx", "m.pt2"]
    monkeypatch.setattr(TorchEdited, "_write_onnx", wrongly)
    found: Any = bnfold.fold(source, tmp_path / "wrong.onnx")
    assert not found.ok and found.verification.congruence.passed
    assert next(p.name for p in found.verification.pieces if not p.passed) == "relu"


def test_wide_values_that_cancel_are_rounded_as_they_came_in(tmp_path: Path) -> None:
    """A norm on each side of sums and a product with zeros, in float64: found by random graphs."""
    source = Path(__file__).parent / "files" / "wide_values_cancel.onnx"
    result: Any = bnfold.fold(source, tmp_path / "f.onnx")
    assert result.ok and result.plan.foldable == 2
    assert "wide" in {piece.excitation for piece in result.verification.pieces}
