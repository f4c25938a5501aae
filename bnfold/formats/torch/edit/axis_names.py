"""Names for the free axes of an ONNX file: ``batch`` and the input's own, not torch's symbols."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind


def axis_names(program: ExportedProgram) -> dict[str, str]:
    """What each symbol of a program's inputs is called: by the first axis that it is the size of."""
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    names: dict[str, str] = {}
    for spec in program.graph_signature.input_specs:
        value = values.get(spec.arg.name)
        if spec.kind is not InputKind.USER_INPUT or not isinstance(value, torch.Tensor):
            continue
        for axis, size in enumerate(value.shape):
            plain = isinstance(size, torch.SymInt) and size.node.expr.is_Symbol
            if plain and str(size) not in names:
                first = axis == 0 and "batch" not in names.values()
                names[str(size)] = "batch" if first else f"{spec.arg.name}_{axis}"
    return names


def name_axes(model: Any, program: ExportedProgram) -> None:
    """Renames the symbols in the shapes of an ``onnx_ir`` model."""
    import onnx_ir as ir

    names = axis_names(program)
    if not names:
        return
    symbol = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")
    inner = (value for node in model.graph.all_nodes() for value in node.outputs)
    for value in (*model.graph.inputs, *inner):
        for axis, size in enumerate(value.shape or ()):
            text = getattr(size, "value", None)
            if isinstance(text, str):
                renamed = symbol.sub(lambda found: names[found[1]], text)
                # torch writes some fixed sizes as text.
                value.shape[axis] = int(text) if text.isdigit() else ir.SymbolicDim(renamed)
