"""Who reads which name in a model that is being edited, across the bodies of control flow."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import onnx

from bnfold.formats.onnx.graph.scopes import Scope, scopes_of
from bnfold.formats.patterns import unused

Key = tuple[int, str]


@dataclass(frozen=True)
class Read:
    """One place in which a name is read: an input of a node, or an output of a graph."""

    node: onnx.NodeProto | None
    position: int


class NameIndex:
    """Readers and producers of every name, kept current while nodes are edited."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.scopes = scopes_of(graph)
        self.reads: dict[Key, list[Read]] = defaultdict(list)
        # Keyed by id, which is only as stable as the wrapper object: hence the node beside it.
        self._home: dict[int, tuple[onnx.NodeProto, Scope]] = {}
        self._gone: set[int] = set()
        self._before: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self._behind: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self.taken = {name for scope in self.scopes for name in _names_defined(scope)}
        for scope in self.scopes:
            for node in scope.graph.node:
                self._home[id(node)] = node, scope
                for position, name in enumerate(node.input):
                    if name:
                        self.reads[self.key(scope, name)].append(Read(node, position))
            for position, output in enumerate(scope.graph.output):
                self.reads[self.key(scope, output.name)].append(Read(None, position))

    def key(self, scope: Scope, name: str) -> Key:
        owner = scope.owner(name)
        return (owner or scope).index, name

    def readers(self, scope: Scope, name: str) -> list[Read]:
        return self.reads[self.key(scope, name)]

    def unique(self, hint: str) -> str:
        """A name that nobody uses yet."""
        return unused(hint, self.taken, "_")

    def set_input(self, node: onnx.NodeProto, position: int, name: str) -> None:
        """Makes ``node`` read ``name`` at ``position``, which may lie behind its last input."""
        scope = self.home(node)
        while len(node.input) <= position:
            node.input.append("")
        old = node.input[position]
        if old:
            reads = self.readers(scope, old)
            reads[:] = [r for r in reads if r.node is not node or r.position != position]
        node.input[position] = name
        if name:
            self.readers(scope, name).append(Read(node, position))

    def home(self, node: onnx.NodeProto) -> Scope:
        return self._home[id(node)][1]

    def is_gone(self, node: onnx.NodeProto) -> bool:
        return id(node) in self._gone

    def set_output(self, node: onnx.NodeProto, position: int, name: str) -> None:
        """Renames an output; its readers are the caller's business."""
        scope = self.home(node)
        scope.producers.pop(node.output[position], None)
        node.output[position] = name
        scope.producers[name] = node

    def remove(self, node: onnx.NodeProto) -> None:
        """Takes ``node`` out of its graph and of the index."""
        scope = self.home(node)
        for position in range(len(node.input)):
            self.set_input(node, position, "")
        for name in node.output:
            if scope.producers.get(name) is node:
                del scope.producers[name]
        self._gone.add(id(node))

    def insert(self, node: onnx.NodeProto, before: onnx.NodeProto) -> None:
        """Puts a new node into the graph of ``before``, in front of it."""
        self._before[id(before)].append(node)
        self._register(node, self.home(before))

    def insert_behind(self, node: onnx.NodeProto, place: onnx.NodeProto) -> None:
        """Puts a new node into the graph of ``place``, right behind it."""
        self._behind[id(place)].append(node)
        self._register(node, self.home(place))

    def _register(self, node: onnx.NodeProto, scope: Scope) -> None:
        self._home[id(node)] = node, scope
        for name in node.output:
            scope.producers[name] = node
            self.taken.add(name)
        for position, name in enumerate(node.input):
            if name:
                self.readers(scope, name).append(Read(node, position))

    def finish(self) -> None:
        """Writes the node lists back, inner bodies before the nodes that hold them."""
        for scope in reversed(self.scopes):
            rebuilt = onnx.GraphProto()
            for node in scope.graph.node:
                rebuilt.node.extend(self._before[id(node)])
                if not self.is_gone(node):
                    rebuilt.node.append(node)
                rebuilt.node.extend(self._behind[id(node)])
            del scope.graph.node[:]
            scope.graph.node.MergeFrom(rebuilt.node)


def _names_defined(scope: Scope) -> set[str]:
    names = set(scope.inputs) | set(scope.initializers) | set(scope.producers)
    return names | {node.name for node in scope.graph.node if node.name}
