"""Which values are known before the model runs: parameters, buffers, and what follows from them.

An operator whose inputs are all known is evaluated by torch itself, in the graph's own types: the
``rsqrt(variance + eps) * weight`` of a frozen BatchNorm, or a standardised convolution weight.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

from bnfold.constants import Constant, Obstacle
from bnfold.formats.torch.file.tensors import has_numpy_dtype, numpy_dtype, to_numpy
from bnfold.formats.torch.graph.arguments import (
    base_name,
    is_aten_call,
    mapped,
    nodes_in,
    operator_of,
    value_of,
)
from bnfold.formats.torch.graph.bodies import Bodies

_SMALL = 1 << 16
_ROUNDING = ("dequantize", "fake_quantize")
_DATA = {InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR}


class Constants:
    """Finds and evaluates the constants of one functional exported program, its bodies included."""

    def __init__(self, program: ExportedProgram) -> None:
        self._program = program
        self.bodies = Bodies.of(program)
        changed = set(program.graph_signature.buffers_to_mutate.values())
        self._names: dict[str, str] = {
            spec.arg.name: spec.target
            for spec in program.graph_signature.input_specs
            if spec.kind in _DATA and spec.target is not None
        }
        # Those that the program does not write to.
        self._unchanged = {node: name for node, name in self._names.items() if name not in changed}
        self._known: dict[Node, bool] = {}
        self._tensors: dict[Node, Any] = {}
        self._found: dict[Node, Constant | None] = {}

    def parameter(self, node: Node) -> str | None:
        """The full name of the parameter or buffer that ``node`` is, or is handed on from."""
        origin = self.bodies.origin(node)
        return self._names.get(origin.name) if self._is_given(origin) else None

    def _is_given(self, node: Node) -> bool:
        """Whether a node is a placeholder of the program itself."""
        return node.op == "placeholder" and node.graph is self._program.graph

    def find(self, node: Node) -> Constant | None:
        """The constant that ``node`` stands for, None where it is computed while the model runs."""
        if node not in self._found:
            self._found[node] = self._constant(node) if self.is_known(node) else None
        return self._found[node]

    def is_known(self, node: Node) -> bool:
        """Whether the value follows from parameters and buffers alone."""
        if node not in self._known:
            self._known[node] = self._follows(node)
        return self._known[node]

    def tensor(self, node: Node) -> Any:
        """The value of a known node (a tensor, or a tuple where the operator returns several)."""
        node = self.bodies.origin(node)
        if self._is_given(node):
            return self._data(self._unchanged[node.name])
        if node not in self._tensors:
            args = mapped(node.args, self._leaf)
            kwargs = mapped(node.kwargs, self._leaf)
            with torch.no_grad():
                self._tensors[node] = operator_of(node)(*args, **kwargs)
        return self._tensors[node]

    def _leaf(self, leaf: Any) -> Any:
        return self.tensor(leaf) if isinstance(leaf, Node) else leaf

    def _data(self, target: str) -> torch.Tensor:
        tensors = self._program.state_dict
        found: torch.Tensor = (
            tensors[target] if target in tensors else self._program.constants[target]
        )
        return found.detach()

    def _follows(self, node: Node) -> bool:
        origin = self.bodies.origin(node)
        if origin is not node:
            return self.is_known(origin)
        value = value_of(node)
        if node.op == "placeholder":
            given = self._is_given(node) and node.name in self._unchanged
            return given and isinstance(value, torch.Tensor)
        if node.op != "call_function":
            return False
        if node.target is operator.getitem:
            return all(self.is_known(source) for source in nodes_in(node.args))
        if not is_aten_call(node) or operator_of(node)._schema.is_mutable:
            return False
        if torch.Tag.nondeterministic_seeded in operator_of(node).tags:
            return False
        if not isinstance(value, torch.Tensor | tuple | list):
            return False
        return all(self.is_known(n) for n in nodes_in((node.args, node.kwargs)))

    def _constant(self, node: Node) -> Constant | None:
        value = value_of(node)
        if not isinstance(value, torch.Tensor) or not has_numpy_dtype(value.dtype):
            return None
        if value.numel() <= _SMALL:
            try:
                self.tensor(node)
            except Exception:  # torch raises whatever its operators raise
                return None
        shape = tuple(int(size) for size in value.shape)

        def load() -> NDArray[Any]:
            return to_numpy(self.tensor(node))

        name = self.parameter(node) or node.name
        return Constant(name, shape, numpy_dtype(value.dtype), load, self._obstacle(node))

    def _obstacle(self, node: Node) -> Obstacle | None:
        node = self.bodies.origin(node)
        if node.op != "call_function":
            return None
        if is_aten_call(node) and any(op in base_name(node) for op in _ROUNDING):
            return Obstacle("QUANTIZED_WEIGHT")
        inputs = (self._obstacle(n) for n in nodes_in((node.args, node.kwargs)))
        return next((obstacle for obstacle in inputs if obstacle), None)


def scalar_constant(number: float, like: torch.Tensor) -> Constant:
    """A Python number in a call, as the constant of the tensor's type that it acts as."""
    dtype = numpy_dtype(like.dtype)
    return Constant(repr(number), (), dtype, lambda: np.asarray(number, np.float64))
