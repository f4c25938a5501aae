"""The names of a program's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.export import ExportedProgram
from torch.utils import _pytree as pytree


def output_names(program: ExportedProgram) -> list[str]:
    """One name for each output: dict keys and attributes as they are, positions as output_N."""
    spec = program.call_spec.out_spec
    if spec is None:
        return []
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    paths = pytree.tree_flatten_with_path(tree)[0]
    return [_joined(path) for path, _ in paths]


def _joined(path: Sequence[Any]) -> str:
    parts = [str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path]
    name = ".".join(parts)
    if not name:
        return "output"
    return f"output_{name}" if name[0].isdigit() else name
