"""Which values are known before the model runs: initializers, Constant nodes and what follows.

What a node of a deterministic operator makes of known values is known. onnxruntime computes it, see
`precomputed`. Shapes of known values are known too, so that chains such as
``Expand(CastLike(0, x), Shape(W))`` come out as the zeros that they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from bnfold.constants import Constant, Obstacle
from bnfold.formats.onnx.file.tensors import TensorStore
from bnfold.formats.onnx.graph.element_types import element_type
from bnfold.formats.onnx.graph.evaluation import STANDARD, Runtime, inputs_of, is_known
from bnfold.formats.onnx.graph.inference import Inference, dtype_in, shape_in
from bnfold.formats.onnx.graph.precomputed import Precomputed
from bnfold.formats.onnx.graph.quantised import stored_form
from bnfold.formats.onnx.graph.scopes import Scope, bodies_of

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
# At which input these operators are told the shape of their result.
_SIZED = {"Expand": 1, "ConstantOfShape": 0}
_PLAIN = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


class Constants:
    """Finds the constants of one model.

    Args:
        model: without local functions.
        scopes: its graph and the bodies in it.
        store: where its tensors are loaded from.
        overridable: names in the main graph that callers may replace (initializers that are
            graph inputs); what depends on them carries an obstacle.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        scopes: list[Scope],
        store: TensorStore,
        overridable: set[str],
    ) -> None:
        self._scopes = scopes
        self._store = store
        self._overridable = overridable
        self._opset = max((o.version for o in model.opset_import if not o.domain), default=1)
        self.runtime = Runtime(self._opset, model.ir_version)
        self.inference = Inference(model)
        self._known = Precomputed(self.inference, self.runtime)
        self._obstacles: dict[str, Obstacle | None] = {}
        self._found: dict[str, Constant] = {}
        self._lengths: dict[str, int] = {}
        self.settle()

    def find(self, scope: Scope, name: str) -> Constant | None:
        """The constant that ``name`` means in ``scope``, None where it is computed at run time."""
        owner = scope.owner(name)
        if owner is None:
            return None
        key = key_of(owner, name)
        if key not in self._found:
            tensor = owner.initializers.get(name)
            found = self._computed(owner, name) if tensor is None else self._stored(owner, tensor)
            if found is None:
                return None
            self._found[key] = found
        return self._found[key]

    def _stored(self, owner: Scope, tensor: onnx.TensorProto) -> Constant | None:
        """An initializer. Most are read by nodes that compute nothing ahead."""
        if tensor.data_type == onnx.TensorProto.STRING:
            return None
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        obstacle = self._replaceable(owner, tensor.name)

        def load() -> NDArray[Any]:
            return self._store.load(tensor)

        def parts(counts: Sequence[int]) -> Iterator[NDArray[Any]]:
            return self._store.parts(tensor, counts)

        return Constant(tensor.name, tuple(tensor.dims), dtype, load, obstacle, read_parts=parts)

    def _computed(self, owner: Scope, name: str) -> Constant | None:
        key = key_of(owner, name)
        known = self._known.type(key)
        shape = shape_in(known)
        if known is None or shape is None:
            return None

        def load() -> NDArray[Any]:
            return self._known.elements(key)

        obstacle = self._obstacles[key]
        quantised = None
        if obstacle is not None and obstacle.code == "QUANTIZED_WEIGHT":
            quantised = stored_form(self.find, owner, name, self._opset)
        return Constant(name, shape, dtype_in(known), load, obstacle, quantised=quantised)

    def _replaceable(self, owner: Scope, name: str) -> Obstacle | None:
        replaceable = owner.parent is None and name in self._overridable
        return Obstacle("OVERRIDABLE_INITIALIZER", name) if replaceable else None

    def settle(self) -> None:
        """Finds every constant that is computed; again, where more has become known."""
        for scope, node in _nodes(self._scopes[0]):
            done = (
                not any(node.output) or self._known.type(key_of(scope, node.output[0])) is not None
            )
            if not done and is_deterministic(node):
                self._settle_node(scope, node)
        self._known.finish()

    def note_lengths(self) -> None:
        """Scale and shift of a norm are as long as its mean.

        That makes those known that repeat a number along an axis of the norm's own input, as the
        newer torch exporter writes a norm without affine parameters.
        """
        for scope, node in _nodes(self._scopes[0]):
            if node.op_type != "BatchNormalization" or node.domain not in STANDARD:
                continue
            mean = self.find(scope, node.input[3])
            for name in node.input[1:3] if mean is not None and len(mean.shape) == 1 else ():
                owner = scope.owner(name)
                maker = owner.producers.get(name) if owner else None
                if owner and maker and maker.op_type in _SIZED:
                    assert mean is not None
                    self._lengths[key_of(owner, name)] = mean.shape[0]
        if self._lengths:
            self.settle()

    def _key(self, scope: Scope, name: str) -> str | None:
        """The key of what ``name`` means; an initializer is made known on the way."""
        owner = scope.owner(name)
        if owner is None:
            return None
        key = key_of(owner, name)
        if key not in self._obstacles and name in owner.initializers:
            self._note_tensor(key, owner.initializers[name], self._replaceable(owner, name))
        return key

    def _note_tensor(self, key: str, tensor: onnx.TensorProto, obstacle: Obstacle | None) -> None:
        self._obstacles[key] = obstacle
        if tensor.data_type != onnx.TensorProto.STRING:
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
            self._known.give(key, dtype, tensor.dims, lambda: self._store.load(tensor))

    def _settle_node(self, scope: Scope, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant":
            self._settle_constant(scope, node)
            return
        cast = self._as_cast(scope, node) if node.op_type == "CastLike" else node
        if cast is None:
            return
        nodes = scope.chain(cast)
        keys: dict[str, str] = {}
        for name in inputs_of(nodes):
            known = self._input_key(scope, node, name)
            if known is None or self._known.type(known) is None:
                return
            keys[name] = known
        if keys and self._known.take(nodes, lambda name: keys.get(name) or key_of(scope, name)):
            obstacle = next((o for k in keys.values() if (o := self._obstacles[k])), None)
            if node.op_type == "DequantizeLinear":
                obstacle = obstacle or Obstacle("QUANTIZED_WEIGHT", None)
            self._obstacles |= {key_of(scope, o): obstacle for o in node.output if o}

    def _settle_constant(self, scope: Scope, node: onnx.NodeProto) -> None:
        key = key_of(scope, node.output[0])
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                self._note_tensor(key, attribute.t, None)
            elif attribute.name in _PLAIN:
                value = helper.get_attribute_value(attribute)
                array = np.asarray(value, _PLAIN[attribute.name])
                self._note_array(key, array)

    def _as_cast(self, scope: Scope, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """A CastLike whose type is known, whatever the other value is."""
        code = element_type(scope, node.input[1], self._opset)
        if not code:
            return None
        return helper.make_node("Cast", node.input[:1], node.output, to=code)

    def _input_key(self, scope: Scope, node: onnx.NodeProto, name: str) -> str | None:
        """The key of an input; that of a length, where the node makes a scale or a shift of it."""
        key = self._key(scope, name)
        length = self._lengths.get(key_of(scope, node.output[0]))
        place = _SIZED.get(node.op_type)
        if length is None or place is None or name not in node.input[place : place + 1]:
            return key
        if key is not None and self._known.type(key) is not None:
            return key
        key = f"length {length}"
        self._note_array(key, np.array([length], np.int64))
        return key

    def _note_array(self, key: str, array: NDArray[Any]) -> None:
        self._obstacles[key] = None
        self._known.give(key, array.dtype, array.shape, lambda: array)


def is_deterministic(node: onnx.NodeProto) -> bool:
    """Whether a node makes the same of the same, by itself; a norm has to be reported, and counts not."""
    known = is_known(node) and node.op_type not in _NEVER
    return known and not any(True for _ in bodies_of(node))


def key_of(scope: Scope, name: str) -> str:
    """A name for ``name`` that is unique in the model."""
    return f"{scope.index}:{name}"


def _nodes(scope: Scope) -> Iterator[tuple[Scope, onnx.NodeProto]]:
    """All nodes, those of bodies after the node that holds them."""
    for position, node in enumerate(scope.graph.node):
        yield scope, node
        for body in scope.bodies.get(position, ()):
            yield from _nodes(body)
