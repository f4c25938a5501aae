"""Nodes of the standard operators: as many inputs, and such attributes, as their schema says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
from onnx import defs

from bnfold.errors import ModelError
from bnfold.formats.onnx.file.sizes import DATA_TYPES
from bnfold.formats.onnx.graph.scopes import label


@dataclass(frozen=True)
class _Form:
    """What the schema of an operator asks of a node."""

    fewest_inputs: int
    most_inputs: int
    fewest_outputs: int
    most_outputs: int
    needed: tuple[tuple[int, str], ...]  # inputs that may not be left out
    types: dict[str, int]
    required: tuple[str, ...]


def validate_node(node: onnx.NodeProto, version: int) -> None:
    """One node, by itself; operators without a schema are taken as they are.

    Raises:
        ModelError: with what is wrong about it.
    """
    problem = _problem(node, version)
    if problem:
        raise ModelError(f"{label(node)} {problem}")


def _problem(node: onnx.NodeProto, version: int) -> str:
    names = [attribute.name for attribute in node.attribute]
    if len(set(names)) < len(names):
        return "has two attributes of one name"
    form = _form(node.op_type, version) if node.domain in ("", "ai.onnx") else None
    if form is None:
        return ""
    return _arity(node, form) or _attributes(node, form) or _setting(node)


def _arity(node: onnx.NodeProto, form: _Form) -> str:
    if not form.fewest_inputs <= len(node.input) <= form.most_inputs:
        return f"has {len(node.input)} inputs where {_span(form.fewest_inputs, form.most_inputs)}"
    if not form.fewest_outputs <= len(node.output) <= form.most_outputs:
        span = _span(form.fewest_outputs, form.most_outputs)
        return f"has {len(node.output)} outputs where {span}"
    for position, name in form.needed:
        if position < len(node.input) and not node.input[position]:
            return f"lacks the input {name!r}"
    return ""


def _attributes(node: onnx.NodeProto, form: _Form) -> str:
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            return f"takes {attribute.name!r} from a function, and stands in none"
        wanted = form.types.get(attribute.name, attribute.type)
        if attribute.type != wanted:
            kinds = onnx.AttributeProto.AttributeType
            found = kinds.Name(attribute.type)
            return f"has the attribute {attribute.name!r} of type {found}, not {kinds.Name(wanted)}"
    given = {attribute.name for attribute in node.attribute}
    missing = [name for name in form.required if name not in given]
    return f"lacks the attribute {missing[0]!r}" if missing else ""


def _setting(node: onnx.NodeProto) -> str:
    """Values that no operator can mean."""
    for attribute in node.attribute:
        check = _SETTINGS.get((node.op_type, attribute.name))
        if check is not None and not check(attribute):
            value = onnx.helper.get_attribute_value(attribute)
            return f"has the attribute {attribute.name!r} = {value}, which means nothing"
    return ""


def _is_count(attribute: onnx.AttributeProto) -> bool:
    return bool(attribute.i > 0)


def _is_permutation(attribute: onnx.AttributeProto) -> bool:
    return sorted(attribute.ints) == list(range(len(attribute.ints)))


def _are_steps(attribute: onnx.AttributeProto) -> bool:
    return all(step > 0 for step in attribute.ints)


def _is_type(attribute: onnx.AttributeProto) -> bool:
    """The first operator sets spelled it out."""
    return attribute.type == onnx.AttributeProto.STRING or attribute.i in DATA_TYPES


_SETTINGS: dict[tuple[str, str], Callable[[onnx.AttributeProto], bool]] = {
    ("Transpose", "perm"): _is_permutation,
    ("Cast", "to"): _is_type,
    **{(op, "group"): _is_count for op in ("Conv", "ConvTranspose")},
    **{
        (op, name): _are_steps
        for op in ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")
        for name in ("strides", "dilations", "kernel_shape")
    },
}


@cache
def _form(op: str, version: int) -> _Form | None:
    try:
        schema = defs.get_schema(op, version, "")
    except defs.SchemaError:
        return None
    single = defs.OpSchema.FormalParameterOption.Single
    return _Form(
        schema.min_input,
        schema.max_input,
        schema.min_output,
        schema.max_output,
        tuple((i, x.name) for i, x in enumerate(schema.inputs) if x.option == single),
        {name: _code(a.type) for name, a in schema.attributes.items()},
        tuple(name for name, a in schema.attributes.items() if a.required),
    )


def _code(kind: Any) -> int:
    return int(onnx.AttributeProto.AttributeType.Value(kind.name))


def _span(fewest: int, most: int) -> str:
    if fewest == most:
        return f"{fewest} are due"
    return f"{fewest} to {most} are due" if most < 1 << 20 else f"at least {fewest} are due"
