"""One operator call as its reader sees it: arguments by schema name, constants, fake tensors."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from bnfold.constants import Constant
from bnfold.formats.torch.graph.arguments import arguments_of, base_name, value_of
from bnfold.formats.torch.graph.constants import Constants
from bnfold.kinds import Kind


@dataclass(frozen=True)
class Reading:
    """The kind of a call and the nodes whose values flow into it."""

    kind: Kind
    inputs: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class CallView:
    """A call of an ATen operator."""

    node: Node
    constants: Constants

    @cached_property
    def arguments(self) -> dict[str, Any]:
        return arguments_of(self.node)

    @property
    def op(self) -> str:
        return base_name(self.node)

    def get(self, name: str, default: Any = None) -> Any:
        """An argument as the graph has it; ``default`` where the schema has no such argument."""
        return self.arguments.get(name, default)

    def tensor(self, name: str) -> Node | None:
        """The node behind a tensor argument, None where it is absent or a plain number."""
        found = self.arguments.get(name)
        return found if isinstance(found, Node) and is_tensor(found) else None

    def flow(self, name: str) -> Node:
        """The node behind a tensor argument that must be there."""
        found = self.tensor(name)
        assert found is not None
        return found

    def constant(self, name: str) -> Constant | None:
        """The constant behind a tensor argument, None where it is absent or computed."""
        found = self.tensor(name)
        return None if found is None else self.constants.find(found)

    def ints(self, name: str, count: int = 0) -> list[int] | None:
        """A list of plain integers, a single one repeated ``count`` times; None where symbolic."""
        found = self.arguments.get(name)
        given = list(found) if isinstance(found, list | tuple) else [found]
        numbers = [number for number in given if isinstance(number, int)]
        if len(numbers) < len(given):
            return None
        return numbers * count if len(numbers) == 1 and count else numbers

    def is_plain(self, name: str) -> bool:
        return isinstance(self.arguments.get(name), int | float | bool)

    @property
    def result(self) -> torch.Tensor | None:
        """The (first) result as the tracer knows it."""
        value = value_of(self.node)
        if isinstance(value, tuple | list):
            value = value[0]
        return value if isinstance(value, torch.Tensor) else None

    def fake(self, name: str) -> torch.Tensor:
        """The tensor argument as the tracer knows it."""
        found: torch.Tensor = value_of(self.flow(name))
        return found

    @property
    def returns_several(self) -> bool:
        return isinstance(value_of(self.node), tuple | list)

    def only_first_result_read(self) -> bool:
        return all(
            user.target is operator.getitem and (user.args[1] == 0 or not user.users)
            for user in self.node.users
        )


def is_tensor(node: Node) -> bool:
    return isinstance(value_of(node), torch.Tensor)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a type is a floating-point one, bfloat16 included."""
    return np.issubdtype(dtype, np.floating) or (dtype.kind == "V" and "float" in dtype.name)
