"""A PyTorch model as bnfold holds it: an exported program, read into the neutral graph."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import GraphModule
from torch.fx import Node as Call

from bnfold.data import InputSpec
from bnfold.files import SourceFile
from bnfold.formats.torch.file.tensors import has_numpy_dtype, numpy_dtype
from bnfold.formats.torch.graph.arguments import (
    arguments_of,
    base_name,
    fixed_size,
    is_aten,
    is_aten_call,
    nodes_in,
)
from bnfold.formats.torch.graph.bodies import unread_bodies
from bnfold.formats.torch.graph.constants import Constants
from bnfold.formats.torch.graph.dict_inputs import dict_keys
from bnfold.formats.torch.graph.in_place import functional
from bnfold.formats.torch.graph.liveness import live_nodes
from bnfold.formats.torch.graph.operators.batch_norm import READERS as BATCH_NORMS
from bnfold.formats.torch.graph.oracle import TorchOracle
from bnfold.formats.torch.graph.read import read_graph
from bnfold.graph import Graph
from bnfold.kinds import Norm


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
        graph.notes += [*self.notes, *_not_understood(graph, self.program)]
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
        return digest_of(self.program.state_dict)

    @property
    def node_count(self) -> int:
        return count_calls(self.program)

    @property
    def batch_norm_count(self) -> int:
        return sum(isinstance(node.kind, Norm) for node in self.graph.nodes)

    @cached_property
    def inputs(self) -> list[InputSpec]:
        """The tensors that a caller gives, by the names that they have in the program."""
        specs: list[InputSpec] = []
        keys = dict_keys(self.program)
        values = {n.name: n.meta.get("val") for n in self.program.graph.nodes}
        for spec in self.program.graph_signature.input_specs:
            value = values.get(spec.arg.name)
            if spec.kind is not InputKind.USER_INPUT or not isinstance(value, torch.Tensor):
                continue
            dtype = numpy_dtype(value.dtype) if has_numpy_dtype(value.dtype) else None
            shape = tuple(map(fixed_size, value.shape))
            key = keys.get(spec.arg.name)
            specs.append(InputSpec(spec.arg.name, dtype, shape, key=key))
        return specs

    @property
    def file(self) -> Path:
        return self.path if self._file is None else self._file.path

    @property
    def files(self) -> list[Path]:
        return [] if self._file is None else [self._file.path]

    def check_unchanged(self) -> None:
        if self._file is not None:
            self._file.check()


def digest_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """The hex digest of the names and elements of a state dict."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)  # of any type
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def count_calls(program: ExportedProgram) -> int:
    """How many operators a program calls, in the bodies of control flow too."""
    modules = [m for m in program.graph_module.modules() if isinstance(m, GraphModule)]
    return sum(is_aten_call(node) for module in modules for node in module.graph.nodes)


def _not_understood(graph: Graph, program: ExportedProgram) -> list[str]:
    """Says which BatchNorm are called in a form that `operators.batch_norm` does not take."""
    live = live_nodes(program.graph)
    norms = [n for n in graph.nodes if n.op == "batch_norm" and not isinstance(n.kind, Norm)]
    names = [node.name for node in norms if node.scope or node.native.call in live]
    why = "their number of channels is free, or they are complex"
    return [f"{len(names)} BatchNorm stay, as {why} ({_some(names)})"] if names else []


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
    """Says which BatchNorm are in the file, yet of no use. One that runs may have other names."""
    live = {node.name for node in live_nodes(program.graph)}
    means = {
        str(spec.target): spec.arg.name in live
        for spec in program.graph_signature.input_specs
        if str(spec.target).endswith("running_mean")
    }
    tensors = program.state_dict
    running = {tensors[name].data_ptr() for name, used in means.items() if used and name in tensors}
    unused = [
        name.rpartition(".")[0]
        for name, used in means.items()
        if not used and not (name in tensors and tensors[name].data_ptr() in running)
    ]
    if not unused:
        return []
    return [
        f"{len(unused)} BatchNorm are in the file, yet no output depends on them ({_some(unused)})"
    ]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
