"""A new exported program in the making: graph, parameters and signature kept in step."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputSpec,
    TensorArgument,
)
from torch.fx import GraphModule
from torch.fx import Node as Call

from bnfold.formats.torch.file.tensors import in_format_of, same_memory
from bnfold.formats.torch.graph.arguments import arguments_of, set_argument
from bnfold.formats.torch.graph.bodies import Bodies, copied_graph

_DATA = {InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR}


class WorkingCopy:
    """A copy of a program's graph on which nodes and parameters are exchanged.

    ``copies`` maps the nodes of the original, those in its bodies too, to those of the copy;
    ``changed``, ``added`` and ``removed`` are full names of parameters and buffers.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self.original = program
        self.copies: dict[Call, Call] = {}
        self.graph = copied_graph(program.graph, self.copies)
        self.bodies = Bodies.of(program).copied(self.copies)
        self.tensors: dict[str, Any] = dict(program.state_dict)
        self.constants: dict[str, Any] = dict(program.constants)
        self.specs: dict[str, InputSpec] = {
            spec.arg.name: spec for spec in program.graph_signature.input_specs
        }
        self.changed: set[str] = set()
        self.added: set[str] = set()
        self.removed: set[str] = set()
        self._forwarded: dict[Call, Call] = {}
        self._placeholders = {n.name: n for n in self.graph.nodes if n.op == "placeholder"}
        self._read_before = {n for n in self._placeholders if self._placeholders[n].users}

    def replace_data(self, node: Call, reader: Call, tensor: torch.Tensor) -> bool:
        """New elements for a parameter, where ``reader`` alone reads it, once."""
        spec, given = self._spec(node), self.bodies.origin(node)
        if spec is None or spec.target is None or self.bodies.readers(given) != [reader]:
            return False
        tensor = in_format_of(self._old(spec.target), tensor)
        self._store(spec, tensor)
        given.meta["val"] = node.meta["val"] = self._fake(tensor)
        self.changed.add(spec.target)
        return True

    def _old(self, target: str) -> Any:
        return self.tensors.get(target, self.constants.get(target))

    def target(self, node: Call) -> str | None:
        """The full name of the parameter or buffer that ``node`` is, or is handed on from."""
        spec = self._spec(node)
        return None if spec is None else spec.target

    def _spec(self, node: Call) -> InputSpec | None:
        origin = self.bodies.origin(node)
        spec = self.specs.get(origin.name) if origin.graph is self.graph else None
        return spec if spec is not None and spec.kind in _DATA else None

    def parameter(self, tensor: torch.Tensor, hint: str, reader: Call) -> Call:
        """A new parameter, named ``hint`` or close to it, as ``reader`` gets to see it."""
        return self.bodies.hand_down(self._parameter(tensor, hint), reader.graph)

    def _parameter(self, tensor: torch.Tensor, hint: str) -> Call:
        unused = self._unused(hint, tensor)
        if unused is not None:
            self._store(self.specs[unused.name], tensor)
            unused.meta["val"] = self._fake(tensor)
            self.changed.add(hint)
            return unused
        target = self._unique(hint)
        owner = [n for n in self._placeholders.values() if self._kind(n) is InputKind.PARAMETER]
        node = self._new_placeholder(f"p_{target.replace('.', '_')}", owner[-1] if owner else None)
        spec = InputSpec(InputKind.PARAMETER, TensorArgument(node.name), target)
        self.specs[node.name] = spec
        self._store(spec, tensor)
        node.meta = {"val": self._fake(tensor)}
        self.added.add(target)
        return node

    def insert_behind(self, call: Call, target: Any, operand: Call) -> Call:
        """``target(call, operand)`` for everybody who read ``call``."""
        with call.graph.inserting_after(call):
            new = call.graph.call_function(target, (call, operand))
        new.meta = dict(call.meta)
        call.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
        self._forwarded[call] = new
        return new

    def insert_before(self, call: Call, argument: str, target: Any, setting: Any) -> None:
        """``target(x, setting)`` in front of ``call``, which reads ``x`` as ``argument``."""
        source = arguments_of(call)[argument]
        with call.graph.inserting_before(call):
            new = call.graph.call_function(target, (source, setting))
        new.meta = {**call.meta, "val": target(source.meta["val"], setting)}
        set_argument(call, argument, new)

    def insert_in_place_of(self, call: Call, target: Any, source: Call) -> Call:
        """``target(source)`` where ``call`` stands, whose result it has to have."""
        with call.graph.inserting_before(call):
            new = call.graph.call_function(target, (source,))
        new.meta = dict(call.meta)
        return new

    def forward(self, old: Call, new: Call) -> None:
        """Whoever read ``old`` reads ``new`` from now on."""
        old.replace_all_uses_with(new)
        self._forwarded[old] = new

    def now(self, original: Call) -> Call:
        """The node that carries what ``original`` carried in the original graph."""
        node, seen = self.copies[original], set[Call]()
        while node in self._forwarded and node not in seen:
            seen.add(node)
            node = self._forwarded[node]
        return node

    def finish(self) -> ExportedProgram:
        """Drops what nothing reads any more and puts the program together."""
        self._separate_outputs()
        self.bodies.drop_unread()
        self.graph.eliminate_dead_code()
        self._drop_unread()
        signature = self._signature()
        module = GraphModule(self.original.graph_module, self.graph)
        module.meta.update(self.original.graph_module.meta)
        self.bodies.attach(module)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ExportedProgram(
                root=module,
                graph=self.graph,
                graph_signature=signature,
                state_dict=self.tensors,
                range_constraints=copy.deepcopy(self.original.range_constraints),
                module_call_graph=self._call_graph(signature),
                example_inputs=self.original.example_inputs,
                constants=self.constants,
                verifiers=self.original.verifiers,
            )

    def _kind(self, node: Call) -> InputKind:
        return self.specs[node.name].kind

    def _store(self, spec: InputSpec, tensor: torch.Tensor) -> None:
        target = spec.target
        assert target is not None
        home = self.constants if target in self.constants else self.tensors
        old = home.get(target)
        device = old.device if isinstance(old, torch.Tensor) else self._device()
        tensor = tensor.to(device)
        if spec.kind is InputKind.PARAMETER:
            grown = old.requires_grad if isinstance(old, torch.Tensor) else True
            tensor = torch.nn.Parameter(tensor, requires_grad=grown)
        home[target] = tensor

    def is_tied(self, spec: InputSpec) -> bool:
        """Whether some call reads the same memory under another name."""
        tensors = {**self.original.state_dict, **self.original.constants}
        others = (s for s in self.original.graph_signature.input_specs if s.target != spec.target)
        return any(
            other.arg.name in self._read_before
            and same_memory(tensors.get(other.target), tensors[spec.target])
            for other in others
            if other.target is not None
        )

    def store_everywhere(self, spec: InputSpec, tensor: torch.Tensor) -> None:
        """New elements for a parameter or buffer under all names that its module goes by."""
        assert spec.target is not None
        home = self.constants if spec.target in self.constants else self.tensors
        old = home[spec.target]
        aliases = [name for name, other in home.items() if same_memory(old, other)]
        for name in (*aliases, spec.target):
            self._store(replace(spec, target=name), tensor)
            self.changed.add(name)

    def _device(self) -> torch.device:
        first = next(iter(self.tensors.values()), None)
        return torch.device("cpu") if first is None else first.device

    def _fake(self, tensor: torch.Tensor) -> Any:
        for node in self.graph.nodes:
            mode = getattr(node.meta.get("val"), "fake_mode", None)
            if mode is not None:
                return mode.from_tensor(tensor.to(self._device()), static_shapes=True)
        return tensor.to("meta")

    def _unused(self, target: str, tensor: torch.Tensor) -> Call | None:
        """The placeholder of a parameter of this name that no call ever read: a tied alias."""
        for name, spec in self.specs.items():
            node = self._placeholders.get(name)
            if spec.target != target or node is None or node.users:
                continue
            old = self.tensors.get(target)
            same = old is not None and old.shape == tensor.shape and old.dtype == tensor.dtype
            return node if same and name not in self._read_before else None
        return None

    def _unique(self, hint: str) -> str:
        hint = hint.replace("#", "_")
        taken = {*self.tensors, *self.constants}
        if hint not in taken:
            return hint
        name, count = f"{hint}_folded", 1
        while name in taken:
            count += 1
            name = f"{hint}_folded_{count}"
        return name

    def _new_placeholder(self, name: str, behind: Call | None) -> Call:
        first = next(iter(self.graph.nodes))
        place = self.graph.inserting_after(behind) if behind else self.graph.inserting_before(first)
        with place:
            node = self.graph.placeholder(name)
        node.target = node.name
        self._placeholders[node.name] = node
        return node

    def _separate_outputs(self) -> None:
        """An output that came down to an input of its graph becomes a copy of it."""
        old = {new: node for node, new in self.copies.items()}
        for graph in (self.graph, *(body.graph for body in self.bodies.all)):
            output = graph.output_node()
            for node in list(output.all_input_nodes):
                if node.op != "placeholder" or _is_returned(old.get(node)):
                    continue
                with graph.inserting_before(output):
                    clone = graph.call_function(torch.ops.aten.clone.default, (node,))
                clone.meta = {"val": node.meta["val"]}
                output.replace_input_with(node, clone)

    def _drop_unread(self) -> None:
        for name in sorted(self._read_before):
            node, spec = self._placeholders[name], self.specs[name]
            if not node.users and spec.kind in _DATA:
                self._drop(node, spec)
        dropped = {t.rpartition(".")[0] for t in self.removed if t.endswith("running_mean")}
        for node in list(self._placeholders.values()):
            spec = self.specs[node.name]
            owner, _, leaf = (spec.target or "").rpartition(".")
            if leaf == "num_batches_tracked" and owner in dropped and not node.users:
                self._drop(node, spec)

    def _drop(self, node: Call, spec: InputSpec) -> None:
        assert spec.target is not None
        self.graph.erase_node(node)
        del self._placeholders[node.name]
        self.tensors.pop(spec.target, None)
        self.constants.pop(spec.target, None)
        self.changed.discard(spec.target)
        self.removed.add(spec.target)

    def _signature(self) -> ExportGraphSignature:
        old = self.original.graph_signature
        inputs = [self.specs[n.name] for n in self.graph.nodes if n.op == "placeholder"]
        returned = self.graph.output_node().args[0]
        assert isinstance(returned, tuple | list)
        outputs = [
            OutputSpec(spec.kind, _renamed(spec.arg, item), spec.target)
            for spec, item in zip(old.output_specs, returned, strict=True)
        ]
        return ExportGraphSignature(input_specs=inputs, output_specs=outputs)

    def _call_graph(self, signature: ExportGraphSignature) -> Any:
        root, *inner = copy.deepcopy(self.original.module_call_graph)
        # Which values enter and leave the modules inside is no longer so.
        entries = [root, *(replace(entry, signature=None) for entry in inner)]
        if root.signature is not None:
            outputs = [s.arg for s in signature.output_specs if s.kind.name == "USER_OUTPUT"]
            entries[0] = replace(root, signature=replace(root.signature, outputs=outputs))
        return entries


def _is_returned(node: Call | None) -> bool:
    return node is not None and any(user.op == "output" for user in node.users)


def _renamed(argument: Any, item: Any) -> Any:
    if isinstance(item, Call) and hasattr(argument, "name"):
        return type(argument)(name=item.name)
    return argument
