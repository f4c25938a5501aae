"""Does the proof find what is wrong? Faults planted in the reader, the planner and the writer.

    python -m benchmarks.detection [--draws 12] [--only-files] [FILE.onnx ...]

Each fault changes one thing in one fold: a constant that is misread when the file is opened, a
tensor that the plan computes, a tensor of the file that was written. The proof has to refuse the
outcome, whatever the network ends in. Beside them stand the honest folds, of which it may refuse
none. What is not found is listed with how many units in the last place the fault has moved what.
Files on the command line are tried as well; the networks built here need none.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.faults import FAULTS, Outcome, is_kind, parameters, scratch, spoilt, table
from bnfold.constants import Constant
from bnfold.errors import BnfoldError
from bnfold.formats.onnx.format import FORMAT
from bnfold.formats.onnx.graph.constants import Constants
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.kinds import Norm
from bnfold.planning import Plan, make_plan
from bnfold.planning.decision import Reweight
from bnfold.proof.regions import touched_nodes
from bnfold.proof.verification import Verification, prove

Array = NDArray[Any]
ROOT = Path(__file__).parent.parent


def folded(model: OnnxModel, plan: Plan, folder: Path) -> Path:
    return FORMAT.edit(model, plan).write(folder / "folded.onnx")[-1]


def judged(model: OnnxModel, plan: Plan, written: Path, edited: Any) -> Verification | None:
    """None where the fold does not come to a verdict, which refuses it as well."""
    try:
        subject = FORMAT.fold(edited, written)
        return prove(subject, model.graph, plan, FORMAT.generated_inputs(model), "generated")
    except BnfoldError:
        return None


def honest(path: Path) -> Verification | None:
    with tempfile.TemporaryDirectory() as folder:
        model = OnnxModel(path)
        plan = make_plan(model.graph)
        edited = FORMAT.edit(model, plan)
        return judged(model, plan, edited.write(Path(folder) / "folded.onnx")[-1], edited)


def in_reader(path: Path, fault: str, rng: np.random.Generator, folder: Path) -> Outcome | None:
    """A constant of a layer that folds comes out wrong when the file is read."""
    plan = make_plan(OnnxModel(path).graph)
    names = [
        constant.name
        for node in touched_nodes(plan)
        for constant in parameters(node)
        if is_kind(np.asarray(constant.load()), FAULTS[fault][1])
    ]
    if not names:
        return None
    chosen, moved = str(rng.choice(names)), 0.0
    model = OnnxModel(path)
    original = Constants.find
    spoilt_arrays: dict[str, Array] = {}

    def misread(self: Constants, scope: Any, name: str) -> Constant | None:
        nonlocal moved
        constant = original(self, scope, name)
        if constant is None or constant.name != chosen:
            return constant
        if name not in spoilt_arrays:
            spoilt_arrays[name], moved = spoilt(np.asarray(constant.load()), fault, rng)
        array = spoilt_arrays[name]
        return Constant(name, constant.shape, constant.dtype, lambda: array, constant.obstacle)

    with mock.patch.object(Constants, "find", misread):
        plan = make_plan(model.graph)
        edited = FORMAT.edit(model, plan)
        written = edited.write(folder / "folded.onnx")[-1]
    if not moved or written.read_bytes() == right_bytes(path):
        return None  # what the plan computes from it came out the same
    found = judged(model, plan, written, edited)
    return Outcome(found is None or not found.passed, moved)


@cache
def right_bytes(path: Path) -> bytes:
    """The file that is written where nothing is wrong."""
    with scratch() as folder:
        model = OnnxModel(path)
        return folded(model, make_plan(model.graph), folder).read_bytes()


def in_planner(path: Path, fault: str, rng: np.random.Generator, folder: Path) -> Outcome | None:
    """One tensor that the plan computes is wrong, each time that it is computed."""
    model = OnnxModel(path)
    plan = make_plan(model.graph)
    wrong = wrong_tensor(fault, rng, lambda: folded(model, plan, folder))
    if wrong is None:
        return None
    wrongly, moved = wrong
    with computed_as(wrongly):
        edited = FORMAT.edit(model, plan)
        written = edited.write(folder / "folded.onnx")[-1]
        found = judged(model, plan, written, edited)
    return Outcome(found is None or not found.passed, moved)


def wrong_tensor(
    fault: str, rng: np.random.Generator, edit: Callable[[], object]
) -> tuple[Callable[[Array], Array], float] | None:
    """What spoils one of the tensors that ``edit`` computes, and how far it moves it; for
    `computed_as`. None where there is nothing to spoil."""
    seen: list[Array] = []

    def note(right: Array) -> Array:
        if is_kind(right, FAULTS[fault][1]):
            seen.append(right)
        return right

    with computed_as(note):
        edit()
    if not seen:
        return None
    right = seen[int(rng.integers(len(seen)))]
    wrong, moved = spoilt(right, fault, rng)
    if not moved:
        return None

    def wrongly(found: Array) -> Array:
        same = found.shape == right.shape and np.array_equal(found, right)
        return wrong.copy() if same else found

    return wrongly, moved


@contextmanager
def computed_as(change: Callable[[Array], Array]) -> Iterator[None]:
    """Weights and biases pass through ``change`` each time that they are computed."""
    blocks_of, bias_of = Reweight.weight_blocks, Reweight.new_bias

    def weight_blocks(edit: Reweight) -> Iterator[Array]:
        flat = np.concatenate([block.copy() for block in blocks_of(edit)])
        return iter([change(flat.reshape(edit.kind.weight.shape)).reshape(-1)])

    def new_bias(edit: Reweight) -> Array | None:
        bias = bias_of(edit)
        return None if bias is None else change(bias)

    with (
        mock.patch.object(Reweight, "weight_blocks", weight_blocks),
        mock.patch.object(Reweight, "new_bias", new_bias),
    ):
        yield


def in_writer(path: Path, fault: str, rng: np.random.Generator, folder: Path) -> Outcome | None:
    """One tensor of the written file is wrong."""
    model = OnnxModel(path)
    plan = make_plan(model.graph)
    edited = FORMAT.edit(model, plan)
    written = edited.write(folder / "folded.onnx")[-1]
    proto = onnx.load(written)
    known = {t.name: t for t in proto.graph.initializer}
    names = [n for n, t in known.items() if t.data_type in (1, 10) and is_kind(
        numpy_helper.to_array(t), FAULTS[fault][1])]  # fmt: skip
    if not names:
        return None
    tensor = known[str(rng.choice(names))]
    wrong, moved = spoilt(numpy_helper.to_array(tensor), fault, rng)
    if not moved:
        return None
    tensor.CopyFrom(numpy_helper.from_array(wrong, tensor.name))
    onnx.save(proto, written)
    found = judged(model, plan, written, edited)
    return Outcome(found is None or not found.passed, moved)


def wrong_epsilon(path: Path, folder: Path) -> Outcome | None:
    """Every epsilon is read ten times too large."""
    vectors = Norm.vectors

    def wrongly(self: Norm) -> tuple[Array, Array]:
        assert self.epsilon is not None
        return vectors(replace(self, epsilon=10 * self.epsilon))

    model = OnnxModel(path)
    with mock.patch.object(Norm, "vectors", wrongly):
        plan = make_plan(model.graph)
        if not plan.edits:
            return None
        edited = FORMAT.edit(model, plan)
        written = edited.write(folder / "folded.onnx")[-1]
    found = judged(model, plan, written, edited)
    return Outcome(found is None or not found.passed, float("nan"))


MAKERS = {"reader": in_reader, "planner": in_planner, "writer": in_writer}


class OnnxSide:
    """See `benchmarks.faults.Side`."""

    def honest(self, path: Path) -> Verification | None:
        return honest(path)

    def planted(
        self, place: str, path: Path, fault: str, rng: np.random.Generator, folder: Path
    ) -> Outcome | None:
        return MAKERS[place](path, fault, rng, folder)

    def wrong_epsilon(self, path: Path, folder: Path) -> Outcome | None:
        return wrong_epsilon(path, folder)


# Networks


def convolutions(head: Callable[[list[onnx.NodeProto], list[Any], str], str], opset: int = 17,
                 dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:  # fmt: skip
    """Two convolutions with BatchNorm, a pooled linear layer, and a head."""
    rng = np.random.default_rng(3)
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    tensors: list[Any] = []
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, *shape: int, low: float | None = None) -> str:
        array = rng.normal(0, 0.4, shape) if low is None else rng.uniform(low, 2 * low + 1, shape)
        tensors.append(numpy_helper.from_array(array.astype(kind), name))
        return name

    value, channels = "x", 3
    for i, wide in enumerate((8, 12)):
        weights = [value, constant(f"w{i}", wide, channels, 3, 3), constant(f"b{i}", wide)]
        nodes.append(helper.make_node("Conv", weights, [f"c{i}"], pads=[1] * 4))
        norm = [constant(f"{n}{i}", wide, low=0.5 if n in "gv" else None) for n in "gbmv"[0]]
        norm += [constant(f"beta{i}", wide), constant(f"mean{i}", wide)]
        norm += [constant(f"var{i}", wide, low=0.5)]
        nodes.append(helper.make_node("BatchNormalization", [f"c{i}", *norm], [f"n{i}"]))
        nodes.append(helper.make_node("Relu", [f"n{i}"], [f"r{i}"]))
        value, channels = f"r{i}", wide
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    linear = ["flat", constant("wl", 5, channels), constant("bl", 5)]
    nodes.append(helper.make_node("Gemm", linear, ["scores"], transB=1))
    last = head(nodes, tensors, "scores")
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", dtype, ["N", 3, 10, 10])],
        [helper.make_empty_tensor_value_info(last)],
        tensors,
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def _head(*steps: tuple[str, Mapping[str, Any], float | None]) -> Callable[..., str]:
    """Operators behind the scores: name, attributes, a constant operand."""

    def build(nodes: list[onnx.NodeProto], tensors: list[Any], value: str) -> str:
        for i, (op, attributes, operand) in enumerate(steps):
            inputs = [value]
            if operand is not None:
                tensors.append(numpy_helper.from_array(np.float32(operand), f"k{i}"))
                inputs.append(f"k{i}")
            nodes.append(helper.make_node(op, inputs, [f"h{i}"], **attributes))
            value = f"h{i}"
        return value

    return build


_NAN = _head(("Sub", {}, 1e9), ("Sqrt", {}, None))
HEADS: dict[str, Callable[..., str]] = {
    "scores": _head(),
    "all NaN": _NAN,
    "Hardmax": _head(("Hardmax", {"axis": 1}, None)),
    "Cast(y > 0)": _head(("Greater", {}, 0.0), ("Cast", {"to": 1}, None)),
    "saturated softmax": _head(("Mul", {}, 1e4), ("Softmax", {"axis": 1}, None)),
    "ArgMax as float": _head(("ArgMax", {"axis": 1}, None), ("Cast", {"to": 1}, None)),
    "Round": _head(("Round", {}, None)),
    "scores + 1e6": _head(("Add", {}, 1e6)),
    "saturated sigmoid": _head(("Add", {}, 40.0), ("Sigmoid", {}, None)),
    "one dead block": _head(("Mul", {}, 0.0)),
    "constant": _head(("Mul", {}, 0.0), ("Add", {}, 1.0)),
}


def networks(folder: Path, files: list[Path], *, only_files: bool) -> Iterator[tuple[str, Path]]:
    yield from ((file.stem, file) for file in files)
    if only_files:
        return
    for name, head in HEADS.items():
        path = folder / f"{len(list(folder.iterdir()))}.onnx"
        onnx.save(convolutions(head), path)
        yield f"head: {name}", path
    path = folder / "half.onnx"
    onnx.save(convolutions(_head(), dtype=TensorProto.FLOAT16), path)
    yield "half precision", path
    for opset in (7, 9, 11, 13, 18, 22):
        path = folder / f"opset{opset}.onnx"
        onnx.save(convolutions(_head(), opset=opset), path)
        yield f"opset {opset}", path
    for name in ("residual", "transposed", "preact", "repvgg", "mlp_bn_before"):
        yield name, ROOT / "sample_models" / f"{name}.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--draws", type=int, default=12)
    parser.add_argument("--only-files", action="store_true", help="try no network built here")
    chosen = parser.parse_args()
    with scratch() as folder:
        tried = networks(folder, chosen.files, only_files=chosen.only_files)
        table(OnnxSide(), tried, chosen.draws)


if __name__ == "__main__":
    main()
