"""A model that moves whatever it is about to round to integers by up to half a step."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import helper

from bnfold.formats.onnx.edit.name_index import NameIndex
from bnfold.formats.onnx.graph.model import OnnxModel

_HALF = 0.5


def stepped_model(model: OnnxModel, fed: onnx.ModelProto, draw: int) -> onnx.ModelProto | None:
    """A copy of ``fed``, the structure of ``model``, with noise before every QuantizeLinear of computed
    values; None where there is none whose step is known."""
    proto = onnx.ModelProto()
    proto.CopyFrom(fed)
    index = NameIndex(proto.graph)
    found = list(_rounding(model, index))
    for place, (node, step) in enumerate(found):
        noise, moved = index.unique("bnfold_noise"), index.unique("bnfold_moved")
        value, most = node.input[0], _HALF * step
        made = helper.make_node(
            "RandomUniformLike",
            [value],
            [noise],
            low=-most,
            high=most,
            seed=float(1 + draw * len(found) + place),
        )
        index.insert(made, node)
        index.insert(helper.make_node("Add", [value, noise], [moved]), node)
        index.set_input(node, 0, moved)
    index.finish()
    return proto if found else None


def _rounding(model: OnnxModel, index: NameIndex) -> Iterator[tuple[onnx.NodeProto, float]]:
    """Each node that rounds computed values, with its largest step."""
    for own, copy in zip(model.scopes, index.scopes, strict=True):
        for node in copy.graph.node:
            if node.op_type != "QuantizeLinear" or node.domain not in ("", "ai.onnx"):
                continue
            computed = not model.has_constant(own, node.input[0])
            if computed and model.has_constant(own, node.input[1]):
                yield node, float(model.constant(own, node.input[1]).float64().max())
