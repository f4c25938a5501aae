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
    passed: list[tuple[Scope, str]] = []
    found: int | str | None = name
    while isinstance(found, str):
        name, found = found, None
        owner = scope.owner(name)
        if owner is None:
            break
        scope = owner
        passed.append((scope, name))
        found = scope.types[name] if name in scope.types else _step(scope, name, opset)
    for place, known in passed:  # a network is walked through once, not once for each layer
        place.types[known] = found
    return found


def _step(scope: Scope, name: str, opset: int) -> int | str | None:
    """The type of what ``scope`` itself defines, or the operand that has the same."""
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
        return str(cut.input[0])
    fixed = _fixed(node)
    return _same_type_operand(node, name, opset) if fixed is None else fixed


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
