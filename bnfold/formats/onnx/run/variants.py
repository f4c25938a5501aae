"""Variants of a model for comparisons: parameters as inputs, inner values as outputs, pieces cut out.

With its parameters exposed as graph inputs, one session runs the original as it is and with every
parameter moved by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from bnfold.formats.onnx.edit.name_index import NameIndex
from bnfold.formats.onnx.file.save import save
from bnfold.formats.onnx.file.tensors import TensorStore
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.graph.scopes import captured_names
from bnfold.formats.onnx.run.session import Session
from bnfold.graph import Affine, Constant, Linear, Node, Norm

Compute = Callable[[], NDArray[Any]]


def parameters_of(node: Node, model: OnnxModel) -> dict[tuple[int, int], Constant]:
    """The constants of a norm, linear or affine node, by (index of proto, input position).

    The proto with index 1 is the Add that serves a MatMul as its bias.
    """
    kind, native = node.kind, node.native
    found: dict[tuple[int, int], Constant] = {}
    if isinstance(kind, Norm | Linear | Affine):
        protos = [native.proto] + ([native.bias_add] if native.bias_add is not None else [])
        flows = {v.name for v in (*node.inputs, *node.outputs)}
        for which, proto in enumerate(protos):
            for position, name in enumerate(proto.input):
                if name and name not in flows and model.has_constant(native.scope, name):
                    found[which, position] = model.constant(native.scope, name)
    return {place: c for place, c in found.items() if _is_float(c.dtype)}


def _is_float(dtype: np.dtype[Any]) -> bool:
    return np.issubdtype(dtype, np.floating) or "float" in dtype.name


def exposed(model: OnnxModel, nodes: Iterable[Node]) -> tuple[onnx.ModelProto, dict[str, Constant]]:
    """A copy of the model in which the parameters of ``nodes`` are graph inputs, and those inputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    proto.ir_version = max(proto.ir_version, 4)  # so that inputs are not taken for constants
    index = NameIndex(proto.graph)
    copies = {
        id(old): new
        for before, after in zip(model.scopes, index.scopes, strict=True)
        for old, new in zip(before.graph.node, after.graph.node, strict=True)
    }
    inputs: dict[str, Constant] = {}
    for node in nodes:
        for (which, position), constant in parameters_of(node, model).items():
            original = node.native.bias_add if which else node.native.proto
            name = index.unique("bnfold_parameter")
            code = helper.np_dtype_to_tensor_dtype(constant.dtype)
            info = helper.make_tensor_value_info(name, code, constant.shape)
            proto.graph.input.append(info)
            copies[id(original)].input[position] = name
            inputs[name] = constant
    return proto, inputs


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of a model that also returns inner values of its main graph."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    present = {o.name for o in result.graph.output}
    for name in dict.fromkeys(names):
        if name not in present:
            result.graph.output.append(helper.make_empty_tensor_value_info(name))
    return result


def cut(
    model: onnx.ModelProto, inputs: Mapping[str, np.dtype[Any]], outputs: Iterable[str]
) -> onnx.ModelProto:
    """The part of a model between inner values: ``inputs`` (name to type) and ``outputs``."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    outputs = list(dict.fromkeys(outputs))
    needed, kept, pending = set(inputs), set(), list(outputs)
    while pending:
        name = pending.pop()
        if name in needed:
            continue
        needed.add(name)
        node = producers.get(name)
        if node is not None and id(node) not in kept:
            kept.add(id(node))
            pending += node.input
            for attribute in node.attribute:
                for body in [attribute.g, *attribute.graphs]:
                    pending += captured_names(body)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.ClearField("graph")
    piece = result.graph
    piece.name = graph.name or "piece"
    piece.node.extend(node for node in graph.node if id(node) in kept)
    piece.initializer.extend(t for t in graph.initializer if t.name in needed - set(inputs))
    piece.input.extend(i for i in graph.input if i.name in needed and i.name not in inputs)
    for name, dtype in inputs.items():
        code = helper.np_dtype_to_tensor_dtype(dtype)
        piece.input.append(helper.make_tensor_value_info(name, code, None))
    piece.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    return result


def start(
    model: onnx.ModelProto, store: TensorStore, computed: Mapping[str, Compute], path: Path
) -> Session:
    """Writes a variant to ``path`` and opens it in the runtime."""
    save(model, store, computed, path)
    return Session(path)
