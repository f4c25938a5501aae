"""The planner's questions, answered by ONNX: shapes by inference, operators by running them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from bnfold.formats.onnx.graph.constants import Constants, evaluate, inputs_of
from bnfold.formats.onnx.graph.scopes import Scope
from bnfold.formats.onnx.graph.shapes import SIZES, Shapes, Sizes, is_static
from bnfold.graph import Node, Shape, Value

_RESHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_IDENTITIES = {"Cast", "Dropout"}  # of floating-point values, in inference: see their readers
_EXACT_IN_FLOAT32 = 1 << 24


class OnnxOracle:
    """Shapes are inferred when the first one is asked for: most models never need any."""

    def __init__(self, model: onnx.ModelProto, scopes: list[Scope]) -> None:
        self._model = model
        self._scopes = scopes
        self.constants: Constants  # set by the reader; the two need each other

    @property
    def rounds(self) -> int:
        return len(self._assignments)

    @cached_property
    def _assignments(self) -> list[Shapes]:
        """Two that differ in every dynamic axis, complete ones if there are such."""
        found: list[tuple[Sizes, Shapes]] = []
        spare: list[tuple[Sizes, Shapes]] = []
        for sizes in SIZES:
            if all(a != b for first, _ in found for a, b in zip(first, sizes, strict=True)):
                shapes = self._propagated(*sizes)
                (found if shapes.complete else spare).append((sizes, shapes))
            if len(found) == (1 if is_static(self._model.graph) else 2):
                break
        for sizes, shapes in spare:
            if len(found) < 2 and all(
                a != b for first, _ in found for a, b in zip(first, sizes, strict=True)
            ):
                found.append((sizes, shapes))
        return [shapes for _, shapes in found[: 1 if is_static(self._model.graph) else 2]]

    def _propagated(self, batch: int, other: int) -> Shapes:
        return Shapes(self._model, self._scopes, self.constants).propagate(batch, other)

    def shape(self, value: Value, round: int) -> Shape | None:
        return self._assignments[round].shape(self._scopes[value.scope], value.name)

    def shape_of(self, scope: Scope, name: str) -> Shape | None:
        """The shape in the first assignment, by name."""
        return self._assignments[0].shape(scope, name)

    def run(self, node: Node, arrays: Sequence[NDArray[Any]], round: int) -> list[NDArray[Any]]:
        proto: onnx.NodeProto = node.native.proto
        if proto.op_type in _IDENTITIES:
            return [np.asarray(arrays[0])]
        shapes = self._assignments[round]
        if proto.op_type in _RESHAPES:
            target = shapes.shape(self._scopes[node.scope], proto.output[0])
            if target is None or prod(target) != arrays[0].size:
                raise NotImplementedError
            return [arrays[0].reshape(target)]
        feeds = {v.name: a for v, a in zip(node.inputs, arrays, strict=True)}
        protos = node.native.scope.chain(proto)
        settings = self._settings(node, protos, feeds, shapes)
        for dtype in (np.float64, np.float32):
            if dtype is np.float32 and max(a.max(initial=0) for a in arrays) > _EXACT_IN_FLOAT32:
                break
            try:
                typed = {name: np.asarray(a, dtype) for name, a in feeds.items()}
                return run_nodes(protos, typed, settings, self._model)
            except NotImplementedError:
                continue
        return run_in_reference(protos, {**feeds, **settings}, self._model)

    def _settings(
        self,
        node: Node,
        protos: Sequence[onnx.NodeProto],
        feeds: dict[str, NDArray[Any]],
        shapes: Shapes,
    ) -> dict[str, NDArray[Any]]:
        """The inputs that are not activations: constants, and sizes that follow from shapes."""
        scope, proto = self._scopes[node.scope], protos[-1]
        settings: dict[str, NDArray[Any]] = {}
        for name in inputs_of(protos):
            if name in feeds:
                continue
            value = shapes.value(scope, name)
            if value is None:
                raise NotImplementedError
            if proto.op_type == "Resize" and name in proto.input[3:4]:
                value = self._shrunk_sizes(node, feeds[proto.input[0]].shape, value, shapes)
            settings[name] = value
        return settings

    def _shrunk_sizes(
        self, node: Node, tried: Shape, sizes: NDArray[Any], shapes: Shapes
    ) -> NDArray[Any]:
        """A resize to absolute sizes, on an input of which axes that stay were shrunk."""
        real = shapes.shape(self._scopes[node.scope], node.inputs[0].name)
        if real is None or len(sizes) != len(real):
            raise NotImplementedError
        stays = [a if s == r else s for a, r, s in zip(tried, real, sizes.tolist(), strict=True)]
        return np.array(stays, np.int64)


def run_nodes(
    protos: Sequence[onnx.NodeProto],
    feeds: dict[str, NDArray[Any]],
    settings: dict[str, NDArray[Any]],
    like: onnx.ModelProto,
) -> list[NDArray[Any]]:
    """A chain of nodes, alone in a model, in onnxruntime: the outputs of the last.

    Raises:
        NotImplementedError: where the runtime does not offer the operators for these types.
    """
    import onnxruntime as ort

    from bnfold.formats.onnx.graph.quiet import quiet_options

    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(a.dtype), [None] * a.ndim
        )
        for name, a in feeds.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in protos[-1].output if name]
    whole = onnx.NodeProto()
    whole.CopyFrom(protos[-1])
    for position, name in enumerate(whole.output):  # the runtime may insist on all of them
        whole.output[position] = name or f"bnfold_unread_{position}"
    initializers = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in settings.items()
    ]
    graph = helper.make_graph([*protos[:-1], whole], "probe", inputs, outputs, initializers)
    model = helper.make_model(
        graph, opset_imports=like.opset_import, ir_version=max(4, like.ir_version)
    )
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), quiet_options(), providers=["CPUExecutionProvider"]
        )
        return [np.asarray(y) for y in session.run(None, feeds)]
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise NotImplementedError(str(error)) from None


def run_in_reference(
    protos: Sequence[onnx.NodeProto], feeds: dict[str, NDArray[Any]], like: onnx.ModelProto
) -> list[NDArray[Any]]:
    """A chain of nodes in onnx.reference, slower and with more operators than onnxruntime has.

    Raises:
        NotImplementedError: where it does not offer the operators either.
    """
    try:
        return evaluate(protos, feeds, {o.domain: o.version for o in like.opset_import})
    except Exception as error:  # the reference evaluator raises whatever its operators raise
        raise NotImplementedError(str(error)) from None
