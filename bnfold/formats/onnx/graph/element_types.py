"""Element types of values, read off the operators' schemas: no shapes needed, nothing executed."""

from __future__ import annotations

import onnx
from onnx import defs

from bnfold.formats.onnx.graph.scopes import Scope

_CONCRETE = {
    "tensor(float)": onnx.TensorProto.FLOAT,
    "tensor(int64)": onnx.TensorProto.INT64,
    "tensor(bool)": onnx.TensorProto.BOOL,
    "tensor(int32)": onnx.TensorProto.INT32,
    "tensor(uint8)": onnx.TensorProto.UINT8,
}


def element_type(scope: Scope, name: str, opset: int) -> int | None:
    """The type that ``name`` must have: a declared one, or that of an operand of the same type."""
    while (owner := scope.owner(name)) is not None:
        scope = owner
        if name in scope.initializers:
            return int(scope.initializers[name].data_type)
        declared = _declared(scope, name)
        if declared is not None:
            return declared
        node = scope.producers.get(name)
        if node is None:
            return None
        cut = scope.chain(node)[0]
        if cut is not node:
            name = cut.input[0]
            continue
        fixed = _fixed(node)
        if fixed is not None:
            return fixed
        followed = _same_type_operand(node, name, opset)
        if isinstance(followed, int) or followed is None:
            return followed
        name = followed
    return None


def _declared(scope: Scope, name: str) -> int | None:
    for value in scope.graph.input:
        if value.name == name and value.type.HasField("tensor_type"):
            return int(value.type.tensor_type.elem_type) or None
    return None


def _fixed(node: onnx.NodeProto) -> int | None:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to":
            return int(attribute.i)
        if node.op_type in ("Constant", "ConstantOfShape") and attribute.name == "value":
            return int(attribute.t.data_type)
    if node.op_type in ("ConstantOfShape", "Constant"):
        return int(onnx.TensorProto.FLOAT)
    return None


def _same_type_operand(node: onnx.NodeProto, name: str, opset: int) -> str | int | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return None
    position = min(list(node.output).index(name), len(schema.outputs) - 1)
    wanted = schema.outputs[position].type_str
    if wanted in _CONCRETE:
        return int(_CONCRETE[wanted])
    for i, operand in enumerate(node.input):
        formal = schema.inputs[min(i, len(schema.inputs) - 1)]
        if operand and formal.type_str == wanted:
            return str(operand)
    return None
