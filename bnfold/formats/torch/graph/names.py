"""The names that users see: those of their modules, taken from the graph's module stack."""

from __future__ import annotations

from collections import Counter

from torch.export import ExportedProgram
from torch.fx import Node

from bnfold.formats.patterns import unused
from bnfold.formats.torch.graph.arguments import is_aten_call


class Names:
    """Unique names for the calls of a program.

    A call is named after the innermost module it was made in where that module makes no other, or
    where it is the module's one normalisation or linear layer; else the operator's name in the
    graph is added. A module called twice gives ``name`` and ``name#2``.
    """

    def __init__(self, program: ExportedProgram, main: set[Node]) -> None:
        """``main``: the calls (norms, linear layers) that may stand for their module."""
        calls = [n for n in program.graph.nodes if is_aten_call(n)]
        self._all = Counter(_invocation(n) for n in calls)
        self._main_calls = Counter(_invocation(n) for n in calls if n in main)
        self._main = main
        self._taken: set[str] = set()

    def of(self, node: Node, parameter: str | None = None) -> str:
        """The name of a call; ``parameter`` is the full name of its own weight or statistic."""
        return unused(self._candidate(node, parameter), self._taken)

    def _candidate(self, node: Node, parameter: str | None) -> str:
        path, invocation = module_path(node), _invocation(node)
        if node in self._main:
            if path and self._main_calls[invocation] == 1:
                return path
            if parameter and "." in parameter:
                return parameter.rpartition(".")[0]
        if path and self._all[invocation] == 1:
            return path
        return f"{path}.{node.name}" if path else str(node.name)


def module_path(node: Node) -> str:
    """The path of the innermost module in which a call was made, empty for the root."""
    stack = node.meta.get("nn_module_stack") or {}
    path = ""
    for entry in stack.values():
        path = entry[0]
    return "" if path.startswith("_empty_nn_module_stack") else str(path)


def _invocation(node: Node) -> str:
    """Tells two calls of one module apart: their keys in the stack differ."""
    keys = list(node.meta.get("nn_module_stack") or {})
    return str(keys[-1]) if keys else ""
