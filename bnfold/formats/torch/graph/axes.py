"""Which axes of the inputs stay free when a module is traced, and what it is tried out on besides."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from bnfold.errors import UsageError
from bnfold.formats.torch.graph.arguments import fixed_size

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""What a module is called with: by position, and by keyword."""
BATCH, AUTO, STATIC = "batch", "auto", "static"
_MORE = 32  # added to a size: what was a multiple of that stays one
_NAMED = re.compile(r"^(?P<name>[A-Za-z_]\w*):(?P<axes>\d+(?:,\d+)*)$")


def parse_dynamic(texts: Sequence[str]) -> Any:
    """What ``--dynamic`` says: ``auto``, or inputs with the axes that are free, as ``x:0,2,3``.

    Raises:
        UsageError: where it says something else.
    """
    if not texts or list(texts) == [AUTO]:
        return texts[0] if texts else None
    shapes: dict[str, dict[int, Any]] = {}
    for text in texts:
        found = _NAMED.match(text.replace(" ", ""))
        if found is None:
            raise UsageError(
                f"--dynamic {text} is not understood: write auto alone, or an input and its axes "
                "such as x:0,2,3"
            )
        shapes[found["name"]] = {int(axis): Dim.AUTO for axis in found["axes"].split(",")}
    return shapes


def shapes_for(module: nn.Module, inputs: Inputs, free: Any) -> Any:
    """What torch.export takes as ``dynamic_shapes``.

    Args:
        module: what is traced.
        inputs: what it is traced on.
        free: `BATCH`, `AUTO`, `STATIC`, or what torch.export takes; there, inputs that are not
            named are static.

    Raises:
        UsageError: where ``free`` names an input that is none.
    """
    if free == STATIC:
        return None
    if not isinstance(free, str):
        return _completed(module, inputs, free)
    size = batch_size(inputs)
    # The first is the batch; torch finds out which others have to be the same.
    first = chain([Dim("batch")], repeat(Dim.AUTO))

    def axes(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return None
        found = {0: next(first)} if has_batch(leaf, size) else {}
        if free == AUTO:
            found |= {a: Dim.AUTO for a, n in enumerate(leaf.shape) if a and n > 1}
        return found or None

    return by_name(module, *pytree.tree_map(axes, inputs))


def _completed(module: nn.Module, inputs: Inputs, free: Any) -> Any:
    if not isinstance(free, dict):
        return free
    known = by_name(module, *pytree.tree_map(lambda leaf: None, inputs))
    unknown = sorted(set(free) - set(known))
    if unknown:
        raise UsageError(
            f"{type(module).__name__} is given no input {', '.join(unknown)} whose axes could be "
            f"free; it is given {', '.join(known) or 'none'}"
        )
    return {**known, **free}


def by_name(
    module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    """What goes with each input, by the name of the parameter of ``forward`` that takes it."""
    parameters = inspect.signature(module.forward).parameters.values()
    rest, others = list(positional), dict(named)
    found: dict[str, Any] = {}
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            found |= {p.name: tuple(rest)} if rest else {}
            rest = []
        elif p.kind is p.VAR_KEYWORD:
            found |= {p.name: others} if others else {}
        elif rest and p.kind is not p.KEYWORD_ONLY:
            found[p.name] = rest.pop(0)
        elif p.name in others:
            found[p.name] = others.pop(p.name)
    return found


def batch_size(tree: Any) -> int | None:
    """The first axis of the first tensor."""
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, torch.Tensor) and leaf.ndim:
            return int(leaf.shape[0])
    return None


def has_batch(leaf: Any, size: int | None) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.ndim > 0 and leaf.shape[0] == size


def changed(own: Inputs, change: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
    """The same inputs, each tensor among them replaced."""
    found: Inputs = pytree.tree_map_only(torch.Tensor, change, own)
    return found


def cloned(own: Inputs) -> Inputs:
    """Tensors of their own: the tracer takes one tensor given twice for one input, and a module
    may write into what it is given."""
    return changed(own, lambda tensor: tensor.detach().clone())


def first_row(own: Inputs) -> Inputs:
    """The same inputs, one sample of them."""
    size = batch_size(own)
    return changed(own, lambda tensor: tensor[:1] if has_batch(tensor, size) else tensor)


def with_batch_of_two(own: Inputs) -> Inputs:
    """A batch of one would be taken for a constant by the tracer; it is repeated."""
    if batch_size(own) != 1:
        return own
    return changed(own, lambda t: torch.cat([t, t]) if has_batch(t, 1) else t)


def with_other_sizes(program: ExportedProgram) -> Inputs | None:
    """Inputs for a program whose free axes, the batch left out, are longer than when it was traced.

    None where no other axis is free, or where sizes are more than plain symbols.
    """
    assert program.example_inputs is not None
    leaves, spec = pytree.tree_flatten(program.example_inputs)
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    given = [
        values[s.arg.name]
        for s in program.graph_signature.input_specs
        if s.kind is InputKind.USER_INPUT
    ]
    shapes = [_longer(value) for value in given]
    if len(given) != len(leaves) or None in shapes or not _differ(leaves, shapes):
        return None
    new = [_made_up(leaf, shape) for leaf, shape in zip(leaves, shapes, strict=True)]
    found: Inputs = pytree.tree_unflatten(new, spec)
    return found


def _longer(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, torch.Tensor):
        return ()
    sizes: list[int] = []
    shape: Sequence[Any] = value.shape
    for axis, size in enumerate(shape):
        if (fixed := fixed_size(size)) is not None:
            sizes.append(fixed)
        elif size.node.expr.is_Symbol and size.node.hint is not None:
            sizes.append(int(size.node.hint) + (_MORE if axis else 0))
        else:
            return None
    return tuple(sizes)


def _differ(leaves: Sequence[Any], shapes: Sequence[Any]) -> bool:
    pairs = zip(leaves, shapes, strict=True)
    return any(isinstance(a, torch.Tensor) and tuple(a.shape) != b for a, b in pairs)


def _made_up(leaf: Any, shape: tuple[int, ...] | None) -> Any:
    if not isinstance(leaf, torch.Tensor) or shape is None:
        return leaf
    generator = torch.Generator().manual_seed(0)
    if leaf.dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(leaf.dtype)
    return torch.ones(shape, dtype=leaf.dtype)
