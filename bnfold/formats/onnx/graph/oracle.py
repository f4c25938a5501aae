"""The planner's questions, answered by ONNX: shapes by inference, operators by running them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.constants import Shape
from bnfold.formats.onnx.file.sizes import MOST_ELEMENTS
from bnfold.formats.onnx.graph.constants import Constants
from bnfold.formats.onnx.graph.evaluation import Piece, piece_of
from bnfold.formats.onnx.graph.scopes import Scope
from bnfold.formats.onnx.graph.shapes import Shapes, is_static
from bnfold.formats.onnx.graph.sizes import Sizes, choose
from bnfold.graph import Node, Value

_IDENTITIES = {"Cast", "Dropout"}  # of floating-point values, in inference: see their readers
_EXACT_IN_FLOAT32 = 1 << 24


class OnnxOracle:
    """Shapes are inferred when the first one is asked for: most models never need any."""

    def __init__(self, model: onnx.ModelProto, scopes: list[Scope]) -> None:
        self._model = model
        self._scopes = scopes
        self._pieces: dict[str, Piece] = {}
        self._probed: dict[Node, Piece] = {}
        self._session: tuple[Any, Any] = (None, None)
        self.constants: Constants  # set by the reader; the two need each other

    @property
    def rounds(self) -> int:
        return len(self._assignments)

    @cached_property
    def _assignments(self) -> list[Shapes]:
        try:
            return choose(self._propagated, is_static(self._model.graph))
        finally:
            self.constants.runtime.forget()

    def _propagated(self, sizes: Sizes) -> Shapes:
        return Shapes(self._scopes, self.constants, self._pieces).propagate(*sizes)

    def shape(self, value: Value, round: int) -> Shape | None:
        found = self._assignments[round].shape(self._scopes[value.scope], value.name)
        # What repeats of a constant come to, say, or a kernel larger than its image: no size at all.
        odd = found is not None and (min(found, default=0) < 0 or math.prod(found) > MOST_ELEMENTS)
        return None if odd else found

    def shape_of(self, scope: Scope, name: str) -> Shape | None:
        """The shape in the first assignment, by name."""
        return self._assignments[0].shape(scope, name)

    def run(self, node: Node, arrays: Sequence[NDArray[Any]], round: int) -> list[NDArray[Any]]:
        proto: onnx.NodeProto = node.native.proto
        if proto.op_type in _IDENTITIES:
            return [np.asarray(arrays[0])]
        shapes = self._assignments[round]
        feeds = {v.name: a for v, a in zip(node.inputs, arrays, strict=True)}
        piece = self._piece(node)
        settings = self._settings(node, piece, feeds, shapes)
        for dtype in (np.float64, np.float32):
            if dtype is np.float32 and max(a.max(initial=0) for a in arrays) > _EXACT_IN_FLOAT32:
                break
            try:
                typed = {name: np.asarray(a, dtype) for name, a in feeds.items()}
                return self._run(piece, settings, typed)
            except NotImplementedError:
                continue
        raise NotImplementedError

    def _piece(self, node: Node) -> Piece:
        """The operator alone; its names are those in the file, which in one scope are unique."""
        if node not in self._probed:
            self._probed[node] = piece_of(node.native.scope.chain(node.native.proto), str)
        return self._probed[node]

    def _run(
        self, piece: Piece, settings: dict[str, NDArray[Any]], feeds: dict[str, NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """The runtime's answer; the last session is kept, for a probe runs twice."""
        (kind,) = {a.dtype for a in feeds.values()}
        told = tuple((name, a.dtype, a.shape, a.tobytes()) for name, a in settings.items())
        key = piece, kind, tuple(a.ndim for a in feeds.values()), told
        wanted = dict.fromkeys(piece.makes, 0)
        if key != self._session[0]:
            self._session = key, self.constants.runtime.open([piece], settings, feeds, wanted)
        return list(self.constants.runtime.answer(self._session[1], feeds, wanted).values())

    def _settings(
        self,
        node: Node,
        piece: Piece,
        feeds: dict[str, NDArray[Any]],
        shapes: Shapes,
    ) -> dict[str, NDArray[Any]]:
        """The inputs that are not activations: constants, and sizes that follow from shapes."""
        scope, proto = self._scopes[node.scope], piece.nodes[-1]
        settings: dict[str, NDArray[Any]] = {}
        for name in piece.reads:
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
        chosen = {a.name: list(a.ints) for a in node.native.proto.attribute}.get("axes")
        if chosen and real is not None:
            tried, real = (tuple(shape[axis] for axis in chosen) for shape in (tried, real))
        if real is None or len(sizes) != len(real):
            raise NotImplementedError
        stays = [a if s == r else s for a, r, s in zip(tried, real, sizes.tolist(), strict=True)]
        return np.array(stays, np.int64)
