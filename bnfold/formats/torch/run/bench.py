"""Benches for PyTorch: the original, with its parameters replaceable, beside the candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.fx import Node as Call

from bnfold.errors import RuntimeUnavailableError
from bnfold.formats.torch.edit.edited import ONNX, PROGRAM, TorchEdited
from bnfold.formats.torch.edit.editor import Editor
from bnfold.formats.torch.file.quiet import first_line, quietly
from bnfold.formats.torch.file.state import read_tensors
from bnfold.formats.torch.file.tensors import has_numpy_dtype, to_numpy
from bnfold.formats.torch.graph.arguments import nodes_in
from bnfold.formats.torch.graph.constants import Constants
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.formats.torch.graph.operators.view import is_float
from bnfold.formats.torch.graph.outputs import output_names
from bnfold.formats.torch.run.runner import Runner
from bnfold.graph import Affine, Linear, Node, Norm, Value
from bnfold.planning import Plan
from bnfold.proof.regions import borders, layers, touched_nodes
from bnfold.proof.verification import Arrays, PreciseRun, perturb

Candidate = Callable[[Arrays], Sequence[NDArray[Any]]]


class TorchBench:
    """The original eagerly, as it is and with moved parameters, beside anything that has outputs."""

    def __init__(
        self,
        program: ExportedProgram,
        parameters: Arrays,
        candidate: Candidate,
        runtime: str = "eager",
    ) -> None:
        self.runtime = f"torch {torch.__version__} {runtime}"
        self._runner = Runner(program)
        self._names = output_names(program)
        self._parameters = parameters
        self._candidate = candidate

    def reference(self, feeds: Arrays) -> Arrays:
        return dict(zip(self._names, self._runner.outputs(feeds), strict=True))

    def perturbed(self, feeds: Arrays, draw: int) -> Arrays:
        moved = moved_parameters(self._parameters, draw)
        return dict(zip(self._names, self._runner.outputs(feeds, moved), strict=True))

    def candidate(self, feeds: Arrays) -> Arrays:
        return dict(zip(self._names, self._candidate(feeds), strict=True))


class TorchLocalBench:
    """The pieces around all folds, fed with the original network's activations."""

    def __init__(
        self,
        program: ExportedProgram,
        parameters: Arrays,
        folded: ExportedProgram,
        tensors: Arrays,
        enter: Sequence[str],
        leave: Mapping[str, str],
        renamed: Mapping[str, str],
    ) -> None:
        """Args:
        program: the original.
        parameters: those of the changed nodes, by the name of their node.
        folded: the outcome.
        tensors: what its parameters are, by the name of their node, where not its own.
        enter: nodes of the original whose values enter the pieces.
        leave: nodes whose values leave them, with the names to show.
        renamed: which nodes carry these values in the outcome.
        """
        self.runtime = f"torch {torch.__version__} eager"
        self._original, self._folded = Runner(program), Runner(folded)
        self._parameters, self._tensors = parameters, tensors
        self._enter, self._leave = enter, leave
        self._renamed = renamed

    def inputs(self, feeds: Arrays) -> Arrays:
        return {**feeds, **self._original.values(feeds, self._enter)}

    def reference(self, feeds: Arrays) -> Arrays:
        return self._shown(self._original.each(feeds, list(self._leave)))

    def perturbed(self, feeds: Arrays, draw: int) -> Arrays:
        moved = moved_parameters(self._parameters, draw)
        return self._shown(self._original.each(feeds, list(self._leave), moved))

    def candidate(self, feeds: Arrays) -> Arrays:
        new = [self._renamed[name] for name in self._leave]
        fed = {self._renamed.get(name, name): array for name, array in feeds.items()}
        found = self._folded.each(fed, list(dict.fromkeys(new)), self._tensors)
        return self._shown({name: found[self._renamed[name]] for name in self._leave})

    def in_double(self, name: str, feeds: Arrays) -> PreciseRun | None:
        """Eager kernels accumulate in a way that has not needed a second opinion."""
        return None

    def _shown(self, found: Arrays) -> Arrays:
        return {shown: found[name] for name, shown in self._leave.items()}


def moved_parameters(parameters: Arrays, draw: int) -> Arrays:
    """Every parameter moved by up to one unit in its last place."""
    rng = np.random.default_rng(draw + 1)
    return {name: perturb(array, rng) for name, array in parameters.items()}


def parameters_of(nodes: Iterable[Node], constants: Constants) -> dict[str, NDArray[Any]]:
    """The constants that calls of norms, linear and affine nodes read, by the name of their node.

    What a body computes for itself has no such name, and is left out.
    """
    found: dict[str, NDArray[Any]] = {}
    for node in nodes:
        if not isinstance(node.kind, Norm | Linear | Affine):
            continue
        calls: list[Call] = [c for c in (node.native.call, node.native.bias_add) if c is not None]
        for call in calls:
            for read in nodes_in((call.args, call.kwargs)):
                constant, given = constants.find(read), constants.bodies.origin(read)
                inner = constants.bodies.around(given)
                if constant is not None and is_float(constant.dtype) and inner is None:
                    found[given.name] = np.asarray(constant.load())
    return found


def local_bench(
    model: TorchModel, plan: Plan, editor: Editor | None, folded: ExportedProgram, tensors: Arrays
) -> TorchLocalBench | None:
    """The pieces that the plan changes.

    Args:
        model: the original.
        plan: what was done to it.
        editor: where each value has gone; None where the graph is the original's.
        folded: the outcome.
        tensors: see `TorchLocalBench`.

    None where there are none, or where one lies in a control-flow body and cannot be observed.
    """
    enter, leave = borders(model.graph, plan)
    if not leave or any(v.scope for v in (*enter, *leave)):
        return None
    calls = model.oracle.calls
    new = {calls[v]: editor.draft.now(calls[v]) if editor else calls[v] for v in (*enter, *leave)}
    renamed = {old.name: call.name for old, call in new.items()}
    parameters = parameters_of(touched_nodes(plan), model.constants)
    entering = [calls[v].name for v in enter]
    shown = {calls[v].name: _shown_name(v) for v in leave}
    return TorchLocalBench(model.program, parameters, folded, tensors, entering, shown, renamed)


def _shown_name(value: Value) -> str:
    """The layer that a value comes from, with a position where that has several outputs."""
    node = value.producer
    assert node is not None
    if isinstance(node.kind, Norm) or len(node.outputs) == 1:
        return node.name
    return f"{node.name}[{node.outputs.index(value)}]"


def onnx_candidate(path: Path) -> Candidate:
    """An ONNX file in onnxruntime, its graph optimisations off, as the candidate.

    Raises:
        RuntimeUnavailableError: where onnxruntime does not accept the file.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise RuntimeUnavailableError(first_line(error)) from None
    names = {i.name for i in session.get_inputs()}

    def run(feeds: Arrays) -> Sequence[NDArray[Any]]:
        try:
            known = {name: np.asarray(a) for name, a in feeds.items() if name in names}
            return [np.asarray(y) for y in session.run(None, known)]
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise RuntimeUnavailableError(first_line(error)) from None

    return run


def fold_bench(edited: TorchEdited, written: Path) -> TorchBench:
    """The original beside the written file, read back."""
    model = edited.model
    suffix = written.suffix.lower()
    # Another runtime sums in another order in every layer, not only in those that change.
    nodes = layers(model.graph) if suffix == ONNX else touched_nodes(edited.plan)
    parameters = parameters_of(nodes, model.constants)
    if suffix == ONNX:
        return TorchBench(model.program, parameters, _in_onnxruntime(written), "eager, onnxruntime")
    if suffix == PROGRAM:
        program = quietly(lambda: torch.export.load(written))
        return TorchBench(model.program, parameters, Runner(program).outputs)
    base = model.program if edited.keep_modules else edited.program
    runner, tensors = Runner(base), _by_node(base, read_tensors(written))
    return TorchBench(model.program, parameters, lambda feeds: runner.outputs(feeds, tensors))


def fold_pieces(edited: TorchEdited) -> TorchLocalBench | None:
    """The pieces in torch. An ONNX file written from them has to keep within the cap besides."""
    model = edited.model
    if edited.keep_modules:
        tensors = _by_node(model.program, edited.kept.tensors)
        return local_bench(model, edited.plan, None, model.program, tensors)
    return local_bench(model, edited.plan, edited.editor, edited.program, {})


def _in_onnxruntime(written: Path) -> Callable[[Arrays], Any]:
    try:
        return onnx_candidate(written)
    except RuntimeUnavailableError as error:
        raise RuntimeUnavailableError(
            f"onnxruntime does not run the ONNX file that torch wrote ({error}), so that it cannot be "
            "verified; write .pt2, or convert the module with .float() first"
        ) from None


def _by_node(program: ExportedProgram, tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """Parameters by the name of their node in ``program``; those that NumPy has no type for stay."""
    return {
        spec.arg.name: to_numpy(tensors[spec.target])
        for spec in program.graph_signature.input_specs
        if spec.target in tensors and has_numpy_dtype(tensors[spec.target].dtype)
    }
