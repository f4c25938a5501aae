"""Graphs inside a graph: the branches of torch.cond, the bodies of loops, what runs without gradients.

The call that holds a body hands its last operands on to the body's last placeholders; among them are
all parameters, which torch.export has lifted out. What a body gets besides (the state of a loop,
slices of a sequence) changes from round to round.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule
from torch.fx import Node as Call

from bnfold.formats.torch.graph.arguments import base_name, mutates, nodes_in

# For each operator, the arguments that name its bodies, and the one that lists what they all are
# handed on; None: all arguments behind the body.
_HELD: dict[str, tuple[tuple[int, ...], int | None]] = {
    "cond": ((1, 2), 3),
    "while_loop": ((0, 1), 3),
    "scan": ((0,), 3),
    "map_impl": ((0,), 2),
    "wrap_with_set_grad_enabled": ((1,), None),
}


@dataclass(frozen=True, eq=False)
class Body:
    """One body: the call that runs it, its name and module there, and its graph."""

    holder: Call
    name: str
    module: GraphModule
    graph: Graph

    @property
    def placeholders(self) -> list[Call]:
        return [node for node in self.graph.nodes if node.op == "placeholder"]

    def handed_on(self) -> list[tuple[Call, Any]]:
        """Placeholders that get an operand of the holder as it is, each with that operand."""
        given = operands(self.holder)
        return list(zip(self.placeholders[-len(given) :], given, strict=True)) if given else []


class Bodies:
    """The bodies of a program that can be read as its main graph is, outer ones before inner ones."""

    def __init__(self, bodies: Iterable[Body]) -> None:
        self.all = tuple(bodies)
        self._at = {body.graph: body for body in self.all}
        self._held: dict[Call, list[Body]] = defaultdict(list)
        for body in self.all:
            self._held[body.holder].append(body)
        self._read = {p for body in self.all for p in body.placeholders if p.users}

    @classmethod
    def of(cls, program: ExportedProgram) -> Bodies:
        """Those of ``program``; what writes into its inputs, or is called twice, is left out."""
        found = list(_bodies_in(program.graph_module))
        modules = [body.module for body in found]
        return cls(body for body in found if modules.count(body.module) == 1)

    def held_by(self, call: Call) -> list[Body]:
        return self._held.get(call, [])

    def around(self, node: Call) -> Body | None:
        """The body in which ``node`` stands, None in the main graph."""
        return self._at.get(node.graph)

    def origin(self, node: Call) -> Call:
        """What ``node`` stands for outside, where it is handed on from there."""
        body = self.around(node)
        while body is not None and node.op == "placeholder":
            outer = next((given for own, given in body.handed_on() if own is node), None)
            if not isinstance(outer, Call):
                break
            node, body = outer, self.around(outer)
        return node

    def readers(self, node: Call) -> list[Call]:
        """Every call that reads ``node``, in bodies too, once for each time it does."""
        found: list[Call] = []
        for user in node.users:
            times = list(nodes_in((user.args, user.kwargs))).count(node)
            bodies = self.held_by(user)
            found += [user] * (times - (operands(user).count(node) if bodies else 0))
            inner = [own for body in bodies for own, given in body.handed_on() if given is node]
            found += [reader for own in inner for reader in self.readers(own)]
        return found

    def copied(self, copies: dict[Call, Call]) -> Bodies:
        """The same bodies on new graphs; ``copies`` maps old nodes to new ones, and grows."""
        return Bodies(
            [
                Body(copies[b.holder], b.name, b.module, copied_graph(b.graph, copies))
                for b in self.all
            ]
        )

    def hand_down(self, node: Call, graph: Graph) -> Call:
        """A node of the main graph as ``graph``, some body, gets to see it."""
        body = self._at.get(graph)
        if body is None:
            return node
        outer = self.hand_down(node, body.holder.graph)
        if all(given is not outer for _, given in body.handed_on()):
            for sibling in self.held_by(body.holder):
                with sibling.graph.inserting_after(sibling.placeholders[-1]):
                    own = sibling.graph.placeholder(outer.name)
                own.target, own.meta = own.name, dict(outer.meta)
            _set_operands(body.holder, [*operands(body.holder), outer])
        return next(own for own, given in body.handed_on() if given is outer)

    def drop_unread(self) -> None:
        """Takes away what no body reads any more, inner bodies first."""
        for body in reversed(self.all):
            body.graph.eliminate_dead_code()
            siblings = self.held_by(body.holder)
            if body is not siblings[0]:
                continue  # the first of them comes last
            for position in reversed(range(len(operands(body.holder)))):
                inner = [sibling.handed_on()[position][0] for sibling in siblings]
                if any(p in self._read for p in inner) and not any(p.users for p in inner):
                    left = operands(body.holder)
                    del left[position]
                    for sibling, placeholder in zip(siblings, inner, strict=True):
                        sibling.graph.erase_node(placeholder)
                    _set_operands(body.holder, left)

    def attach(self, root: GraphModule) -> None:
        """Gives ``root``, made of the main graph, modules made of the bodies."""
        modules = {root.graph: root}
        for body in self.all:
            module = GraphModule(body.module, body.graph)
            module.meta.update(body.module.meta)
            setattr(modules[body.holder.graph], body.name, module)
            modules[body.graph] = module


def unread_bodies(program: ExportedProgram) -> Iterator[tuple[Call, GraphModule]]:
    """What `Bodies.of` leaves out, each with the call that holds it."""
    modules = [m for m in program.graph_module.modules() if isinstance(m, GraphModule)]
    read = {program.graph, *(body.graph for body in Bodies.of(program).all)}
    for module in modules:
        for attribute in module.graph.find_nodes(op="get_attr"):
            inner = getattr(module, str(attribute.target), None)
            if isinstance(inner, GraphModule) and inner.graph not in read:
                yield from ((holder, inner) for holder in attribute.users)


def copied_graph(graph: Graph, copies: dict[Call, Call]) -> Graph:
    """A copy of ``graph``; ``copies`` gets its nodes."""
    new, made = Graph(), dict[Call, Call]()
    copied: Any = new.graph_copy(graph, made, return_output_node=True)
    returned, output = copied
    for old, node in made.items():  # names that Python's builtins have come out changed
        node.name = old.name
    new.output(returned).meta = dict(output.meta)
    copies |= made
    return new


def operands(call: Call) -> list[Any]:
    """What the holder of bodies hands on to them as it is."""
    bodies, place = _HELD[base_name(call)]
    given: Any = call.args[bodies[-1] + 1 :] if place is None else call.args[place]
    return list(given)


def _set_operands(call: Call, given: list[Any]) -> None:
    bodies, place = _HELD[base_name(call)]
    if place is None:
        call.args = (*call.args[: bodies[-1] + 1], *given)
    else:
        old: Any = call.args[place]
        call.args = (*call.args[:place], type(old)(given), *call.args[place + 1 :])


def _bodies_in(module: GraphModule) -> Iterator[Body]:
    for call in module.graph.nodes:
        if call.op != "call_function" or base_name(call) not in _HELD:
            continue
        names = [str(call.args[i].target) for i in _HELD[base_name(call)][0]]
        found = [Body(call, n, getattr(module, n), getattr(module, n).graph) for n in names]
        if any(mutates(node) for body in found for node in body.graph.nodes):
            continue
        for body in found:
            yield body
            yield from _bodies_in(body.module)
