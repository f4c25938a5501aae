"""The planner's questions, answered by torch: shapes from the tracer, operators by running them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import Node as Call

from bnfold.constants import Shape
from bnfold.formats.torch.graph.arguments import (
    is_aten_call,
    is_tensor,
    mapped,
    operator_of,
    value_of,
)
from bnfold.formats.torch.graph.constants import Constants
from bnfold.formats.torch.graph.operators import SHAPE_READS
from bnfold.formats.torch.graph.symbols import Symbols
from bnfold.graph import Node, Value
from bnfold.kinds import Movement

# The arguments of these hold a type or a layout that a probe in float64 must not follow.
_TYPED = ("dtype", "device", "layout", "pin_memory", "memory_format")


class TorchOracle:
    """Shapes by symbol substitution; operators on tiny float64 tensors."""

    def __init__(self, symbols: Symbols, constants: Constants) -> None:
        self.symbols = symbols
        self._constants = constants
        self.calls: dict[Value, Call] = {}

    @property
    def rounds(self) -> int:
        return self.symbols.rounds

    def shape(self, value: Value, round: int) -> Shape | None:
        known = value_of(self.calls[value])
        if isinstance(known, tuple | list):  # an output that nobody picked
            return None
        return self.symbols.shape(known, round) if isinstance(known, torch.Tensor) else None

    def run(self, node: Node, arrays: Sequence[NDArray[Any]], round: int) -> list[NDArray[Any]]:
        call: Call = node.native.call
        if isinstance(node.kind, Movement) and node.kind.touched == ():
            return [np.asarray(arrays[0])]
        if not is_aten_call(call):
            raise NotImplementedError
        queues: dict[Call, list[torch.Tensor]] = defaultdict(list)
        for flow, array in zip(node.native.flows, arrays, strict=True):
            queues[flow].append(torch.from_numpy(np.ascontiguousarray(array, np.float64)))
        last = {flow: tensors[-1] for flow, tensors in queues.items()}

        def leaf(item: Any) -> Any:
            if not isinstance(item, Call):
                return self._plain(item, round)
            if item in queues:
                return queues[item].pop(0) if queues[item] else last[item]
            return self._setting(node, item, round)

        kwargs = {k: v for k, v in call.kwargs.items() if k not in _TYPED}
        try:
            with torch.no_grad():
                result = operator_of(call)(*mapped(call.args, leaf), **mapped(kwargs, leaf))
        except NotImplementedError:
            raise
        except Exception as error:  # torch raises whatever its operators raise
            raise NotImplementedError(str(error)) from None
        results = list(result) if isinstance(result, tuple | list) else [result]
        return [r.numpy() for r in results]

    def _setting(self, node: Node, item: Call, round: int) -> Any:
        """An argument that is no activation: a known tensor, a size, or a tensor read for its shape."""
        if not is_tensor(item):
            return self._plain(value_of(item), round)
        if self._constants.is_known(item):
            return self._constants.tensor(item)
        if node.op in SHAPE_READS:
            shape = self.symbols.shape(value_of(item), round)
            if shape is not None:
                return torch.empty(shape, dtype=torch.float64)
        raise NotImplementedError

    def _plain(self, item: Any, round: int) -> Any:
        number = self.symbols.number(item, round)
        if number is None and item is not None:
            raise NotImplementedError
        return number
