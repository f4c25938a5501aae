"""Which values are known before the model runs: initializers, Constant nodes and what follows.

A node of a deterministic operator whose inputs are all known is evaluated with onnx.reference when
somebody asks. Shapes of known values are known too, so that chains such as
``Expand(CastLike(0, x), Shape(W))`` come out as the zeros that they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from bnfold.formats.onnx.file.tensors import TensorStore
from bnfold.formats.onnx.graph.element_types import element_type
from bnfold.formats.onnx.graph.scopes import Scope, bodies_of
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
# At which input these operators are told the shape of their result.
_SIZED = {"Expand": 1, "ConstantOfShape": 0}


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
        self._lengths: dict[tuple[int, str], int] = {}

    def note_lengths(self, scopes: Iterable[Scope]) -> None:
        """Scale and shift of a norm are as long as its mean.

        That makes those known that repeat a number along an axis of the norm's own input, as the
        newer torch exporter writes a norm without affine parameters.
        """
        for scope in scopes:
            for node in scope.graph.node:
                if node.op_type != "BatchNormalization" or node.domain not in ("", "ai.onnx"):
                    continue
                mean = self.find(scope, node.input[3])
                if mean is not None and len(mean.shape) == 1:
                    owners = [(scope.owner(name), name) for name in node.input[1:3]]
                    self._lengths |= {(o.index, name): mean.shape[0] for o, name in owners if o}

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
            return self._evaluated([node], name, [])
        if any(True for _ in bodies_of(node)):
            return None
        if node.op_type == "CastLike":
            return self._cast_like(scope, node, name)
        nodes = scope.chain(node)
        names = inputs_of(nodes)
        found = (self.find(scope, i) or self._length(scope, node, i) for i in names)
        inputs = [c for c in found if c is not None]
        return self._evaluated(nodes, name, inputs) if names and len(inputs) == len(names) else None

    def _length(self, scope: Scope, node: onnx.NodeProto, name: str) -> Constant | None:
        """The input ``name`` of a node that makes a scale or a shift: how long that is."""
        length = self._lengths.get((scope.index, node.output[0]))
        place = _SIZED.get(node.op_type)
        if length is None or place is None or name not in node.input[place : place + 1]:
            return None
        sizes = np.array([length], np.int64)
        return Constant(name, sizes.shape, sizes.dtype, lambda: sizes)

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
        self, nodes: Sequence[onnx.NodeProto], name: str, inputs: list[Constant]
    ) -> Constant | None:
        """The result ``name`` of the last of ``nodes``; ``inputs`` as `inputs_of` orders them."""
        elements = sum(math.prod(c.shape) for c in inputs)
        if elements > _LARGEST_RESULT:
            return None
        position = list(nodes[-1].output).index(name)

        def load() -> NDArray[Any]:
            named = zip(inputs_of(nodes), inputs, strict=True)
            feeds = {i: np.asarray(c.load()) for i, c in named}
            return evaluate(nodes, feeds, self._opsets)[position]

        try:
            result = load()
        except Exception:  # the reference evaluator raises whatever its operators raise
            return None
        obstacle = next((c.obstacle for c in inputs if c.obstacle), None)
        if nodes[-1].op_type == "DequantizeLinear":
            obstacle = obstacle or Obstacle("QUANTIZED_WEIGHT", None)
        if result.nbytes < 1 << 16:
            return Constant(name, result.shape, result.dtype, lambda: result, obstacle)
        return Constant(name, result.shape, result.dtype, load, obstacle)


def inputs_of(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """The names, each once, that a chain of nodes reads from outside."""
    made = {name for node in nodes for name in node.output}
    return list(dict.fromkeys(i for node in nodes for i in node.input if i and i not in made))


def evaluate(
    nodes: Sequence[onnx.NodeProto], feeds: dict[str, NDArray[Any]], opsets: dict[str, int]
) -> list[NDArray[Any]]:
    """The outputs of the last of a chain of nodes, with onnx.reference. Raises whatever that raises.

    Raises:
        TypeError: where they are sequences.
    """
    known: dict[str, Any] = dict(feeds)
    results: list[Any] = []
    with np.errstate(all="ignore"):
        for node in nodes:
            evaluator = ReferenceEvaluator(node, opsets=opsets)
            results = list(evaluator.run(None, {i: known[i] for i in node.input if i}))
            known |= zip(node.output, results, strict=False)
    if any(isinstance(y, list) for y in results):
        raise TypeError("a sequence is no tensor")
    return [np.asarray(y) for y in results]
