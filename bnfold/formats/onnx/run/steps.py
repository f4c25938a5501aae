"""A model that moves whatever it is about to round to integers by up to half a step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bnfold.constants import Constant
from bnfold.formats.onnx.edit.name_index import NameIndex
from bnfold.formats.onnx.graph.evaluation import is_known
from bnfold.formats.onnx.graph.model import OnnxModel

_HALF = 0.5
# Noise that hangs on the value: a wave so fast that it is as good as random. onnxruntime 1.32 has no
# random numbers at operator set 22.
_FAST = 1e4


def stepped_model(model: OnnxModel, fed: onnx.ModelProto, draw: int) -> onnx.ModelProto | None:
    """A copy of ``fed``, the structure of ``model``, with noise before every QuantizeLinear of computed
    values; None where there is none whose step is known."""
    proto = onnx.ModelProto()
    proto.CopyFrom(fed)
    index = NameIndex(proto.graph)
    found = list(_rounding(model, index))
    for node, scale in found:
        _move(proto.graph, index, node, scale, draw)
    index.finish()
    return proto if found else None


def _rounding(model: OnnxModel, index: NameIndex) -> Iterator[tuple[onnx.NodeProto, Constant]]:
    """Each node that rounds computed values, with its scale."""
    for own, copy in zip(model.scopes, index.scopes, strict=True):
        for node in copy.graph.node:
            if node.op_type != "QuantizeLinear" or not is_known(node):
                continue
            computed = not model.has_constant(own, node.input[0])
            if computed and model.has_constant(own, node.input[1]):
                yield node, model.constant(own, node.input[1])


def _move(
    graph: onnx.GraphProto, index: NameIndex, node: onnx.NodeProto, scale: Constant, draw: int
) -> None:
    """Adds ``step / 2 * sin(x * fast + draw)`` to what ``node`` rounds."""
    step = float(scale.float64().max())
    value = node.input[0]
    for op, number in (("Mul", _FAST / step), ("Add", draw), ("Sin", None), ("Mul", _HALF * step)):
        operands = [value]
        if number is not None:
            operands.append(index.unique("bnfold_number"))
            array = np.asarray(number, scale.dtype)
            graph.initializer.append(numpy_helper.from_array(array, operands[-1]))
        value = index.unique("bnfold_noise")
        index.insert(helper.make_node(op, operands, [value]), node)
    moved = index.unique("bnfold_moved")
    index.insert(helper.make_node("Add", [node.input[0], value], [moved]), node)
    index.set_input(node, 0, moved)
