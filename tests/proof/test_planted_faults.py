"""Faults planted in the reader, the planner and the writer: the proof refuses each, whatever the
network ends in, and no honest fold beside them. `python -m benchmarks.detection` plants thousands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

import bnfold
from bnfold.algebra.rounding import cast
from bnfold.constants import Constant
from bnfold.errors import DataError
from bnfold.formats.onnx.graph.constants import Constants
from bnfold.formats.onnx.run.fold import OnnxPiece
from bnfold.planning import decision
from situations.build import Net
from situations.fold import ROOT, save, spoil_written
from situations.run import RECENT

Head = Callable[[Net, str], str]


def _behind(*steps: tuple[str, float | None, dict[str, Any]]) -> Head:
    def head(net: Net, value: str) -> str:
        for i, (op, operand, attributes) in enumerate(steps):
            rest = [] if operand is None else [net.const(np.array(operand))]
            value = net.op(op, value, *rest, name=f"head{i}", **attributes)
        return value

    return head


HEADS: dict[str, Head] = {
    "scores": _behind(),
    "all NaN": _behind(("Relu", None, {}), ("Sub", 1e9, {}), ("Sqrt", None, {})),
    "Hardmax": _behind(("Hardmax", None, {"axis": 1})),
    "a mask": _behind(("Greater", 0.0, {}), ("Cast", None, {"to": TensorProto.FLOAT})),
    "saturated softmax": _behind(("Mul", 1e4, {}), ("Softmax", None, {"axis": 1})),
    "ArgMax": _behind(("ArgMax", None, {"axis": 1})),
    "Round": _behind(("Round", None, {})),
    "saturated sigmoid": _behind(("Relu", None, {}), ("Add", 40.0, {}), ("Sigmoid", None, {})),
    "constant": _behind(("Relu", None, {}), ("Mul", 0.0, {}), ("Tanh", None, {})),
}


def network(head: str, opset: int = 17) -> onnx.ModelProto:
    """Two layers in a row, both with a BatchNorm, and a head."""
    net = Net(opset=opset)
    first = net.bn(net.conv(net.input("N", 3, 8, 8), 3, 6, name="c1"), 6, "b1")
    second = net.bn(net.conv(net.relu(first, "r1"), 6, 5, name="c2"), 5, "b2")
    pooled = net.op("GlobalAveragePool", net.relu(second, "r2"), name="pool")
    return net.model(HEADS[head](net, net.op("Flatten", pooled, name="flat")))


def one_weight(array: NDArray[Any]) -> NDArray[Any]:
    result: NDArray[Any] = array.copy()
    result.reshape(-1)[result.size // 2] *= 1.01
    return result


def two_channels(array: NDArray[Any]) -> NDArray[Any]:
    result: NDArray[Any] = array.copy()
    result[[0, 1]] = result[[1, 0]]
    return result


FAULTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "one weight by 1 %": one_weight,
    "all by 1e-4": lambda array: array * 1.0001,
    "two channels swapped": two_channels,
    "reversed and tripled": lambda array: 3 * array[::-1],
    "zero": np.zeros_like,
}


@pytest.mark.parametrize("head", HEADS)
def test_an_honest_fold_passes(head: str, tmp_path: Path) -> None:
    source = save(network(head), tmp_path / "m.onnx")
    result = bnfold.fold(source, tmp_path / "f.onnx")
    assert result.ok, result.to_json()["verification"]
    assert result.verification is not None and result.verification.pieces
    assert result.plan.kept == 0


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 14, 15, 18, 20, 22, 23] + [24] * RECENT)
def test_an_honest_fold_passes_at_every_opset(opset: int, tmp_path: Path) -> None:
    source = save(network("scores", opset), tmp_path / "m.onnx")
    assert bnfold.fold(source, tmp_path / "f.onnx").ok


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("head", HEADS)
def test_a_fault_in_the_planner_is_found(
    head: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weight of the first layer that folds is computed wrongly, each time that it is computed."""

    right = decision.Reweight.weight_blocks

    def wrongly(edit: decision.Reweight) -> Iterator[NDArray[Any]]:
        shape, dtype = edit.kind.weight.shape, edit.kind.weight.dtype
        if shape != (6, 3, 3, 3):
            return right(edit)
        weight = np.concatenate([block.copy() for block in right(edit)]).reshape(shape)
        return iter([cast(FAULTS[fault](weight), dtype).reshape(-1)])

    source = save(network(head), tmp_path / "m.onnx")
    monkeypatch.setattr(decision.Reweight, "weight_blocks", wrongly)
    result = bnfold.fold(source, tmp_path / "f.onnx")
    assert not result.ok and result.output is None
    assert result.verification is not None and result.verification.pieces
    assert result.verification.first_wrong == "b1_out"
    assert sum(not piece.passed for piece in result.verification.pieces) == 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("head", HEADS)
def test_a_constant_that_is_misread_is_found(
    head: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands on the written side only: the original is the user's own file."""
    find = Constants.find

    def misread(self: Constants, scope: Any, name: str) -> Constant | None:
        found = find(self, scope, name)
        if found is None or found.name != "c1.weight":
            return found
        array = FAULTS[fault](np.asarray(found.load())).astype(np.float32)
        return Constant(name, found.shape, found.dtype, lambda: array, found.obstacle)

    source = save(network(head), tmp_path / "m.onnx")
    monkeypatch.setattr(Constants, "find", misread)
    result = bnfold.fold(source, tmp_path / "f.onnx")
    assert not result.ok and result.verification is not None
    assert result.verification.first_wrong == "b1_out"


@pytest.mark.parametrize("layer", ["b1_out", "b2_out", None])
def test_pieces_that_run_one_by_one_find_the_same(
    layer: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is computed around pieces is bounded by running them in groups, here of one each."""
    groups: list[OnnxPiece] = []
    make = OnnxPiece.__init__

    def counted(self: OnnxPiece, *given: Any) -> None:
        groups.append(self)
        make(self, *given)

    monkeypatch.setattr("bnfold.formats.onnx.run.fold._GROUP_BYTES", 1)
    monkeypatch.setattr(OnnxPiece, "__init__", counted)
    right = decision.Reweight.weight_blocks

    def wrongly(edit: decision.Reweight) -> Iterator[NDArray[Any]]:
        spoilt = edit.node.outputs[0].name == {"b1_out": "c1_out", "b2_out": "c2_out"}.get(
            layer or ""
        )
        return (1.01 * block if spoilt else block for block in right(edit))

    monkeypatch.setattr(decision.Reweight, "weight_blocks", wrongly)
    result = bnfold.fold(save(network("scores"), tmp_path / "m.onnx"), tmp_path / "f.onnx")
    assert len(groups) == 2 and result.ok == (layer is None)
    assert result.verification is not None and result.verification.first_wrong == layer


def _spoil(tensor: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Any], None]:
    def spoil(model: onnx.ModelProto) -> None:
        found = next(t for t in model.graph.initializer if t.name == tensor)
        array = change(numpy_helper.to_array(found)).astype(np.float32)
        found.CopyFrom(numpy_helper.from_array(array, tensor))

    return spoil


def _rename_node(model: onnx.ModelProto) -> None:
    model.graph.node[1].name = "another"


def _change_attribute(model: onnx.ModelProto) -> None:
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    conv.attribute.append(onnx.helper.make_attribute("pads", [1, 1, 1, 1]))


def _another_version(model: onnx.ModelProto) -> None:
    model.opset_import[0].version += 1


def _another_word(model: onnx.ModelProto) -> None:
    model.doc_string = "something else"


def _reconnect(model: onnx.ModelProto) -> None:
    relu = [n for n in model.graph.node if n.op_type == "Relu"][1]
    relu.input[0], other = "r1_out", relu.input[0]
    model.graph.node.insert(0, onnx.helper.make_node("Identity", [other], ["unread"]))


def _one_more_node(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Relu", ["b2_out"], ["unread"], name="more"))


def _one_node_less(model: onnx.ModelProto) -> None:
    relu = [n for n in model.graph.node if n.op_type == "Relu"][1]
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == relu.output[0]:
                node.input[i] = relu.input[0]
    model.graph.node.remove(relu)


FILES: dict[str, Callable[[Any], None]] = {
    "a changed tensor": _spoil("c2.weight", one_weight),
    "a bias": _spoil("c1.bias", lambda array: array + 1e-3),
    "the name of a node": _rename_node,
    "an attribute": _change_attribute,
    "the operator set": _another_version,
    "the documentation": _another_word,
    "a connection": _reconnect,
    "one node more": _one_more_node,
    "one node less": _one_node_less,
}


@pytest.mark.parametrize("what", FILES)
def test_a_fault_in_the_written_file_is_found(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(network("scores"), tmp_path / "m.onnx")
    spoil_written(monkeypatch, FILES[what])
    result = bnfold.fold(source, tmp_path / "f.onnx")
    assert not result.ok and result.verification is not None
    congruence = result.verification.congruence
    assert congruence is not None and congruence.differences
    assert not (tmp_path / "f.onnx").exists()


def test_a_fault_in_an_unchanged_tensor_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bit of a weight that no edit touches."""
    net = Net()
    folds = net.relu(net.bn(net.conv(net.input("N", 3, 8, 8), 3, 4, name="c1"), 4, "b1"), "r1")
    source = save(net.model(net.conv(folds, 4, 4, name="untouched")), tmp_path / "m.onnx")

    def flip(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "untouched.weight")
        raw = bytearray(numpy_helper.to_array(tensor).tobytes())
        raw[0] ^= 1
        tensor.ClearField("float_data")
        tensor.raw_data = bytes(raw)

    spoil_written(monkeypatch, flip)
    result = bnfold.fold(source, tmp_path / "f.onnx")
    assert not result.ok and result.verification is not None
    congruence = result.verification.congruence
    assert congruence is not None
    assert "untouched" in " ".join(congruence.differences)


def test_data_that_is_not_finite_makes_nothing_equal(tmp_path: Path) -> None:
    """Any two networks agree on NaN; so does any drift."""
    spoilt = np.zeros((8, 1, 8, 8), np.float32)
    spoilt[3, 0, 2, 2] = np.nan
    np.save(tmp_path / "nan.npy", spoilt)
    models = (ROOT / "sample_models" / f"{name}.onnx" for name in ("residual", "preact"))
    with pytest.raises(DataError, match="sample 3 of"):
        bnfold.verify(*models, data=tmp_path / "nan.npy")
    with pytest.raises(DataError, match="sample 3 of"):
        bnfold.inspect(ROOT / "sample_models" / "residual.onnx", data=tmp_path / "nan.npy")


def test_two_models_with_a_constant_output_are_not_verified(tmp_path: Path) -> None:
    source = save(network("constant"), tmp_path / "m.onnx")
    other = onnx.load(source)
    _spoil("c1.weight", lambda array: array * 2)(other)
    found = bnfold.verify(source, save(other, tmp_path / "o.onnx")).verification
    assert not found.passed and not found.decided and not found.differs
