"""Which values are known before the model runs: initializers, Constant nodes and what follows.

A node of a deterministic operator whose inputs are all known is evaluated with onnx.reference when
somebody asks. Shapes of known values are known too, so that chains such as
``Expand(CastLike(0, x), Shape(W))`` come out as the zeros that they are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from bnfold.formats.onnx.element_types import element_type
from bnfold.formats.onnx.scopes import Scope, bodies_of
from bnfold.formats.onnx.tensors import TensorStore
from bnfold.graph import Constant, Obstacle

_NEVER = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "Dropout",
    "BatchNormalization",
}
_LARGEST_RESULT = 1 << 28


class Constants:
    """Finds and evaluates constants of one model.

    Args:
        overridable: names in the main graph that callers may replace (initializers that are
            graph inputs); what depends on them carries an obstacle.
    """

    def __init__(
        self,
        main: Scope,
        store: TensorStore,
        opsets: dict[str, int],
        overridable: set[str],
    ) -> None:
        self._main = main
        self._store = store
        self._opsets = opsets
        self._overridable = overridable
        self._found: dict[tuple[int, str], Constant | None] = {}

    def find(self, scope: Scope, name: str) -> Constant | None:
        """The constant that ``name`` means in ``scope``, None where it is computed at run time."""
        owner = scope.owner(name)
        if owner is None:
            return None
        key = owner.index, name
        if key not in self._found:
            self._found[key] = None  # a cycle is no constant
            self._found[key] = self._look_up(owner, name)
        return self._found[key]

    def _look_up(self, scope: Scope, name: str) -> Constant | None:
        tensor = scope.initializers.get(name)
        if tensor is not None:
            obstacle = None
            if scope is self._main and name in self._overridable:
                obstacle = Obstacle("OVERRIDABLE_INITIALIZER", name)
            return self._of_tensor(tensor, name, obstacle)
        node = scope.producers.get(name)
        if node is None or node.domain not in ("", "ai.onnx") or node.op_type in _NEVER:
            return None
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    return self._of_tensor(attribute.t, name, None)
            return self._evaluated(node, name, [])
        if any(True for _ in bodies_of(node)):
            return None
        if node.op_type == "CastLike":
            return self._cast_like(scope, node, name)
        inputs = [self.find(scope, i) if i else None for i in node.input]
        if any(c is None for c, i in zip(inputs, node.input, strict=True) if i) or not inputs:
            return None
        return self._evaluated(node, name, [c for c in inputs if c is not None])

    def _of_tensor(
        self, tensor: onnx.TensorProto, name: str, obstacle: Obstacle | None
    ) -> Constant | None:
        if tensor.data_type == onnx.TensorProto.STRING:
            return None
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        shape = tuple(tensor.dims)
        return Constant(name, shape, dtype, lambda: self._store.load(tensor), obstacle)

    def _cast_like(self, scope: Scope, node: onnx.NodeProto, name: str) -> Constant | None:
        source, like = self.find(scope, node.input[0]), self.find(scope, node.input[1])
        if source is None:
            return None
        if like is not None:
            dtype: np.dtype[Any] | None = like.dtype
        else:
            code = element_type(scope, node.input[1], self._opsets.get("", 1))
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code)) if code else None
        if dtype is None:
            return None
        target = dtype
        return Constant(
            name, source.shape, dtype, lambda: source.load().astype(target), source.obstacle
        )

    def _evaluated(
        self, node: onnx.NodeProto, name: str, inputs: list[Constant]
    ) -> Constant | None:
        elements = sum(math.prod(c.shape) for c in inputs)
        if elements > _LARGEST_RESULT:
            return None
        position = list(node.output).index(name)

        def load() -> NDArray[Any]:
            names = [i for i in node.input if i]
            feeds = {i: np.asarray(c.load()) for i, c in zip(names, inputs, strict=True)}
            return np.asarray(evaluate(node, feeds, self._opsets)[position])

        try:
            result = load()
        except Exception:  # the reference evaluator raises whatever its operators raise
            return None
        obstacle = next((c.obstacle for c in inputs if c.obstacle), None)
        if node.op_type == "DequantizeLinear":
            obstacle = obstacle or Obstacle("QUANTIZED_WEIGHT", None)
        if result.nbytes < 1 << 16:
            return Constant(name, result.shape, result.dtype, lambda: result, obstacle)
        return Constant(name, result.shape, result.dtype, load, obstacle)


def evaluate(
    node: onnx.NodeProto, feeds: dict[str, NDArray[Any]], opsets: dict[str, int]
) -> list[NDArray[Any]]:
    """One node on known inputs, with onnx.reference. Raises whatever that raises."""
    with np.errstate(all="ignore"):
        evaluator = ReferenceEvaluator(node, opsets=opsets)
        return [np.asarray(y) for y in evaluator.run(None, feeds)]
