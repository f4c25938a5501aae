"""One native node as an operator's reader sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from bnfold.constants import Constant
from bnfold.errors import ModelError
from bnfold.formats.onnx.graph.constants import Constants
from bnfold.formats.onnx.graph.oracle import OnnxOracle
from bnfold.formats.onnx.graph.scopes import Scope, label
from bnfold.kinds import Kind


@dataclass(frozen=True)
class Reading:
    """The kind of a node and the names of the values that flow into it."""

    kind: Kind
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class NodeView:
    """Attributes with their defaults, inputs by position, constants, and shapes on demand."""

    proto: onnx.NodeProto
    scope: Scope
    opset: int
    constants: Constants
    oracle: OnnxOracle
    is_read: Callable[[str], bool]

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute; strings come as ``str``."""
        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode(errors="replace") if isinstance(value, bytes) else value
        return default

    def ints(self, name: str) -> list[int]:
        """A list attribute, empty where it is absent."""
        return [int(i) for i in self.attribute(name, ())]

    def name(self, position: int) -> str:
        """The name of an input, empty where it is absent."""
        return self.proto.input[position] if position < len(self.proto.input) else ""

    def constant(self, position: int) -> Constant | None:
        """The constant at an input position, None where it is absent or computed."""
        name = self.name(position)
        return self.constants.find(self.scope, name) if name else None

    def numbers(self, position: int, attribute: str = "") -> list[float] | None:
        """A setting that older operator sets had as an attribute and newer ones as an input.

        None where it is computed while the model runs; empty where it is absent.
        """
        if self.name(position):
            constant = self.constant(position)
            return None if constant is None else np.ravel(constant.load()).tolist()
        return list(self.attribute(attribute, ())) if attribute else []

    def require(self, holds: bool, problem: str) -> None:
        """Refuses what no runtime could compute, where constants have to be known to see it.

        Raises:
            ModelError: with ``problem``, where it does not hold.
        """
        if not holds:
            raise ModelError(f"the model is damaged: {label(self.proto)} {problem}")

    def rank(self, position: int = 0) -> int | None:
        shape = self.oracle.shape_of(self.scope, self.name(position))
        return None if shape is None else len(shape)

    def is_float(self, constant: Constant) -> bool:
        return is_float(constant.dtype)

    def only_first_output_read(self) -> bool:
        return not any(self.is_read(name) for name in self.proto.output[1:] if name)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a type is a floating-point one, those of ml_dtypes included."""
    if np.issubdtype(dtype, np.floating):
        return True
    return dtype.kind == "V" and "float" in dtype.name
