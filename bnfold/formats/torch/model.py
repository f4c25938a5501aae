"""A PyTorch model as bnfold holds it: an exported program, read into the neutral graph."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import GraphModule
from torch.fx import Node as Call

from bnfold.data import InputSpec
from bnfold.errors import DataError
from bnfold.files import SourceFile
from bnfold.formats.torch.arguments import (
    arguments_of,
    base_name,
    is_aten,
    is_aten_call,
    nodes_in,
)
from bnfold.formats.torch.bodies import unread_bodies
from bnfold.formats.torch.constants import Constants
from bnfold.formats.torch.operators.batch_norm import READERS as BATCH_NORMS
from bnfold.formats.torch.oracle import TorchOracle
from bnfold.formats.torch.read import read_graph
from bnfold.formats.torch.run import Runner
from bnfold.formats.torch.tensors import has_numpy_dtype, numpy_dtype
from bnfold.formats.torch.trace import functional
from bnfold.graph import Graph, Norm
from bnfold.planning import Plan
from bnfold.planning.pieces import layers
from bnfold.verification import Arrays, Bench

if TYPE_CHECKING:
    from bnfold.formats import Model
    from bnfold.formats.torch.edited import TorchEdited
    from bnfold.formats.torch.restatistic import TorchRestated
    from bnfold.recalibration.edit import Restatistic
    from bnfold.recalibration.observer import Observer, RuntimeOptions


class TorchModel:
    """An exported program and what was read from it. Nothing here changes it."""

    format = "torch"

    def __init__(
        self,
        program: ExportedProgram,
        path: Path,
        notes: Sequence[str] = (),
        file: SourceFile | None = None,
    ) -> None:
        """Takes a program over.

        Args:
            program: of a module in eval mode.
            path: what the user named: a file, or a factory.
            notes: what was done to get the program.
            file: the file that holds the weights, where there is one.
        """
        self.program = functional(program)
        self.path = path
        self.notes = [*notes, *_unused_norms(self.program), *_unread_norms(self.program)]
        self._file = file

    @cached_property
    def _read(self) -> tuple[Graph, Constants, TorchOracle]:
        graph, constants, oracle = read_graph(self.program)
        graph.notes += self.notes
        return graph, constants, oracle

    @property
    def graph(self) -> Graph:
        return self._read[0]

    @property
    def constants(self) -> Constants:
        return self._read[1]

    @property
    def oracle(self) -> TorchOracle:
        return self._read[2]

    @cached_property
    def sha256(self) -> str:
        """Of the weights' file; without one, of the names and elements of the parameters."""
        if self._file is not None:
            return self._file.sha256()
        digest = hashlib.sha256()
        for name, tensor in sorted(self.program.state_dict.items()):
            digest.update(name.encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)  # of any type
            digest.update(flat.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @property
    def node_count(self) -> int:
        return count_calls(self.program)

    @property
    def batch_norm_count(self) -> int:
        return sum(isinstance(node.kind, Norm) for node in self.graph.nodes)

    @cached_property
    def inputs(self) -> list[InputSpec]:
        """The tensors that a caller gives, by the names that they have in the program."""
        specs = []
        values = {n.name: n.meta.get("val") for n in self.program.graph.nodes}
        for spec in self.program.graph_signature.input_specs:
            value = values.get(spec.arg.name)
            if spec.kind is not InputKind.USER_INPUT or not isinstance(value, torch.Tensor):
                continue
            dtype = numpy_dtype(value.dtype) if has_numpy_dtype(value.dtype) else None
            shape = tuple(n if isinstance(n, int) else None for n in value.shape)
            specs.append(InputSpec(spec.arg.name, dtype, shape))
        return specs

    def generated_inputs(self) -> Sequence[Arrays]:
        """Two sets: normally distributed values, and values between 0 and 1 as images have them.

        Raises:
            DataError: where an input has a type that cannot be made up.
            RuntimeUnavailableError: where the model does not run on them.
        """
        rng = np.random.default_rng(0)
        feeds = [
            {spec.name: self._made_up(spec, rng, image=image) for spec in self.inputs}
            for image in (False, True)
        ]
        runner = Runner(self.program)
        for each in feeds:
            runner.outputs(each)
        return feeds

    def _made_up(self, spec: InputSpec, rng: np.random.Generator, *, image: bool) -> NDArray[Any]:
        node = next(n for n in self.program.graph.nodes if n.name == spec.name)
        shape = self.oracle.symbols.shape(node.meta["val"], 0)
        if spec.dtype is None or shape is None:
            raise DataError(f"input {spec.name} has a type to make no values for; give --data")
        if spec.dtype.kind in "biu":  # 0 and 1 are legal indices nearly everywhere
            return rng.integers(0, 2, shape).astype(spec.dtype)
        values = rng.random(shape) if image else rng.standard_normal(shape)
        return values.astype(spec.dtype)

    def loads(self) -> bool:
        return True

    @property
    def file(self) -> Path:
        return self.path if self._file is None else self._file.path

    @property
    def files(self) -> list[Path]:
        return [] if self._file is None else [self._file.path]

    def check_unchanged(self) -> None:
        if self._file is not None:
            self._file.check()

    def edit(self, plan: Plan, *, keep_modules: bool = False) -> TorchEdited:
        from bnfold.formats.torch.edited import TorchEdited

        return TorchEdited(self, plan, keep_modules=keep_modules)

    def observer(self, scratch: Path, options: RuntimeOptions) -> Observer:
        from bnfold.formats.torch.observe import TorchObserver

        return TorchObserver(self, options)

    def restated(self, edits: Sequence[Restatistic]) -> TorchRestated:
        from bnfold.formats.torch.restatistic import TorchRestated

        return TorchRestated(self, edits)

    def comparison(self, other: Model, scratch: Path) -> Bench:
        """This model, with the parameters of all its layers replaceable, beside another one.

        Raises:
            UsageError: where the other holds no program that could run.
            RuntimeUnavailableError: where no runtime accepts the other.
        """
        from bnfold.errors import UsageError
        from bnfold.formats.torch.bench import TorchBench, onnx_candidate, parameters_of

        parameters = parameters_of(layers(self.graph), self.constants)
        if isinstance(other, TorchModel):
            return TorchBench(self.program, parameters, Runner(other.program).outputs)
        if other.format == "onnx":
            run = onnx_candidate(other.path)
            return TorchBench(self.program, parameters, run, "eager, onnxruntime")
        raise UsageError(f"{other.path} holds weights without a program; give its factory")


def count_calls(program: ExportedProgram) -> int:
    """How many operators a program calls, in the bodies of control flow too."""
    modules = [m for m in program.graph_module.modules() if isinstance(m, GraphModule)]
    return sum(is_aten_call(node) for module in modules for node in module.graph.nodes)


def _unread_norms(program: ExportedProgram) -> list[str]:
    """Says which BatchNorm are called in bodies that are not looked into."""
    found: dict[str, list[str]] = {}
    for holder, body in unread_bodies(program):
        for call in body.graph.nodes:
            if is_aten(call) and base_name(call) in BATCH_NORMS:
                found.setdefault(base_name(holder), []).append(
                    _norm_in(body, call, holder, program)
                )
    return [
        f"{len(names)} BatchNorm are called in the body of {operator}, which is not looked into, "
        f"and stay ({_some(names)})"
        for operator, names in found.items()
    ]


def _norm_in(body: GraphModule, call: Call, holder: Call, program: ExportedProgram) -> str:
    """The name of a norm's module, by its mean: parameters are the last operands of the holder."""
    mean = arguments_of(call).get("running_mean")
    inner = [node for node in body.graph.nodes if node.op == "placeholder"]
    outer = [node for node in nodes_in((holder.args, holder.kwargs)) if node.op != "get_attr"]
    given = dict(zip(reversed(inner), reversed(outer), strict=False)).get(mean)
    specs = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
    target = specs.get(given.name) if given is not None and given.graph is program.graph else None
    return str(target or call.name).removesuffix(".running_mean")


def _unused_norms(program: ExportedProgram) -> list[str]:
    """Says which BatchNorm are in the file, yet never run."""
    placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    unused = [
        str(spec.target).rpartition(".")[0]
        for spec in program.graph_signature.input_specs
        if str(spec.target).endswith("running_mean") and not placeholders[spec.arg.name].users
    ]
    if not unused:
        return []
    return [
        f"{len(unused)} BatchNorm are in the file, yet inference never runs them ({_some(unused)})"
    ]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
