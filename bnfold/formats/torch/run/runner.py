"""Running exported programs eagerly, whole or in part, with any value replaced."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node as Call

from bnfold.errors import RuntimeUnavailableError, UsageError
from bnfold.formats.torch.file.quiet import first_line
from bnfold.formats.torch.file.tensors import has_numpy_dtype, lent, numpy_dtype, to_numpy, to_torch
from bnfold.formats.torch.graph.arguments import mapped, mutates, nodes_in, operator_of

Arrays = Mapping[str, NDArray[Any]]
_MANY = ("cuda", "xpu")


def usable_device(name: str) -> str:
    """``name`` with its index; under ``torchrun`` a plain ``cuda`` is this process's own.

    Raises:
        UsageError: where torch knows no such device, or has none here.
    """
    rank = os.environ.get("LOCAL_RANK", "0")
    try:
        device = torch.device(f"{name}:{rank}" if name in _MANY else name)
        torch.empty(0, device=device)
    except Exception as error:  # torch raises whatever its backends raise
        raise UsageError(
            f"torch cannot use the device {name} here ({first_line(error)}); use --device cpu"
        ) from None
    return str(device)


class Runner:
    """One program on one device. Arrays go in and come out on the host.

    ``double``: floating-point numbers are float64, whatever their own type. ``borrow``: values that
    are given are read where they lie, and what comes back may lie there too.
    """

    def __init__(
        self,
        program: ExportedProgram,
        device: str = "cpu",
        *,
        double: bool = False,
        borrow: bool = False,
    ) -> None:
        self.program = program
        self._double = double
        self._borrow = borrow and not any(mutates(node) for node in program.graph.nodes)
        self._device = torch.device(device)
        self._nodes = {node.name: node for node in program.graph.nodes}
        self._parameters = _parameters(program)
        # The same piece runs for batch after batch, perhaps by turns with another.
        self._steps = lru_cache(maxsize=4)(self._planned)
        self._known: dict[str, Any] = {}  # those that were needed, on the device
        kinds = [s.kind.name for s in program.graph_signature.output_specs]
        returned: Any = program.graph.output_node().args[0]
        self._outputs = [n for n, k in zip(returned, kinds, strict=True) if k == "USER_OUTPUT"]

    def each(
        self, feeds: Arrays, wanted: Sequence[str], replaced: Arrays | None = None
    ) -> dict[str, NDArray[Any]]:
        """As `values`, each wanted value computed even where ``feeds`` holds it for the others."""
        found: dict[str, NDArray[Any]] = {}
        for name in wanted:
            others = {n: array for n, array in feeds.items() if n != name}
            found |= self.values(others, [name], replaced)
        return found

    def values(
        self, feeds: Arrays, wanted: Sequence[str], replaced: Arrays | None = None
    ) -> dict[str, NDArray[Any]]:
        """The values of nodes by name; computes only what they need.

        Args:
            feeds: inputs of the program by name; others may be missing where nothing needs them.
            wanted: names of nodes.
            replaced: values to use for other nodes by name, parameters included.

        Raises:
            RuntimeUnavailableError: where an input is missing or an operator fails.
        """
        maps: Any = ({}, replaced or {}, feeds)  # the first is that for writing
        given: Arrays = ChainMap(*maps)
        try:
            with torch.no_grad():
                found = self._evaluate(given, [self._nodes[name] for name in wanted])
        except Exception as error:  # torch raises whatever its operators raise
            raise RuntimeUnavailableError(first_line(error)) from None
        return {name: _array(found[self._nodes[name]]) for name in wanted}

    def outputs(self, feeds: Arrays, replaced: Arrays | None = None) -> list[NDArray[Any]]:
        """The program's outputs in their order. Raises as `values`."""
        nodes = [n for n in self._outputs if isinstance(n, Call)]
        found = self.values(feeds, [n.name for n in nodes], replaced)
        return [_array(found[n.name] if isinstance(n, Call) else n) for n in self._outputs]

    def dtype_of(self, name: str) -> np.dtype[Any] | None:
        """The element type of a node's value, None where NumPy has no such type."""
        value = self._nodes[name].meta.get("val")
        known = isinstance(value, torch.Tensor) and has_numpy_dtype(value.dtype)
        return numpy_dtype(value.dtype) if known else None

    def size_of(self, name: str) -> int:
        """The bytes of a node's value, at the sizes that the program was traced on."""
        value = self._nodes[name].meta.get("val")
        if not isinstance(value, torch.Tensor):
            return 0
        sizes = (n if isinstance(n, int) else n.node.hint or 1 for n in value.shape)
        return prod(sizes) * value.element_size()

    def _evaluate(self, given: Arrays, wanted: Sequence[Call]) -> dict[Call, Any]:
        taken = lent if self._borrow else to_torch
        found: dict[Call, Any] = {}
        for node, spent in self._steps(tuple(wanted), frozenset(given)):
            array = given.get(node.name)
            if array is not None:
                found[node] = self._placed(taken(np.asarray(array)))
            else:
                found[node] = self._run(node, found)
            for value in spent:
                found.pop(value, None)
        return found

    def _planned(
        self, wanted: tuple[Call, ...], given: frozenset[str]
    ) -> list[tuple[Call, list[Call]]]:
        """The nodes to compute in their order, each with the values that nobody reads after it."""
        needed, last_use = _needed(wanted, given)
        nodes = [node for node in self.program.graph.nodes if node in needed]
        return [(n, [v for v in last_use.get(n, ()) if v not in wanted]) for n in nodes]

    def _run(self, node: Call, found: Mapping[Call, Any]) -> Any:
        if node.op == "placeholder":
            return self._parameter(node.name)
        if node.op == "get_attr":
            return self._placed(getattr(self.program.graph_module, str(node.target)))

        def leaf(item: Any) -> Any:
            if isinstance(item, torch.device):  # written into the program by the tracer
                return self._device
            return found[item] if isinstance(item, Call) else item

        return operator_of(node)(*mapped(node.args, leaf), **mapped(node.kwargs, leaf))

    def _parameter(self, name: str) -> Any:
        if name not in self._known:
            if name not in self._parameters:
                raise KeyError(f"input {name} is missing")
            self._known[name] = self._placed(self._parameters[name])
        return self._known[name]

    def _placed(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        wide = self._double and value.is_floating_point()
        return value.to(self._device, torch.float64 if wide else value.dtype)


def _parameters(program: ExportedProgram) -> dict[str, Any]:
    """Parameters, buffers and fixed arguments by the name of their placeholder."""
    known: dict[str, Any] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            if hasattr(spec.arg, "value"):
                known[spec.arg.name] = spec.arg.value
        elif spec.target in program.state_dict:
            known[spec.arg.name] = program.state_dict[spec.target].detach()
        elif spec.target in program.constants:
            known[spec.arg.name] = program.constants[spec.target]
    return known


def _needed(
    wanted: Sequence[Call], given: Container[str]
) -> tuple[set[Call], dict[Call, list[Call]]]:
    """The nodes to compute, and after which one each value is spent."""
    needed: set[Call] = set()
    stack = list(wanted)
    while stack:
        node = stack.pop()
        if node in needed:
            continue
        needed.add(node)
        if node.name not in given:
            stack += nodes_in((node.args, node.kwargs))
    order = {node: i for i, node in enumerate(wanted[0].graph.nodes)} if wanted else {}
    last_use: dict[Call, list[Call]] = {}
    for node in needed:
        readers = [user for user in node.users if user in needed and user.name not in given]
        if readers:
            last_use.setdefault(max(readers, key=order.__getitem__), []).append(node)
    return needed, last_use


def _array(value: Any) -> NDArray[Any]:
    return to_numpy(value) if isinstance(value, torch.Tensor) else np.asarray(value)
