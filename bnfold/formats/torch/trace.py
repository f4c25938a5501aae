"""torch.export as the front door: from a module and example inputs to a functional program."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from bnfold.errors import ModelError
from bnfold.formats.torch.arguments import arguments_of, base_name, is_aten_call
from bnfold.formats.torch.operators.batch_norm import READERS as BATCH_NORMS

_T = TypeVar("_T")


def trace(
    module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
) -> tuple[ExportedProgram, list[str]]:
    """The program of a copy of ``module`` in eval mode, and notes on what was done for that.

    The first axis of every tensor becomes dynamic where the module allows that. The module itself
    is not touched.

    Raises:
        ModelError: where torch.export cannot trace it; the message says what to try.
    """
    notes: list[str] = []
    name = type(module).__name__
    if any(m.training for m in module.modules()):
        notes.append(f"{name} was in training mode; a copy was put into eval mode")
    module = copy.deepcopy(module).eval()
    grown_args, grown_kwargs = _with_batch_of_two(tuple(args), dict(kwargs or {}))
    try:
        with torch.no_grad():
            module(*grown_args, **grown_kwargs)
        program = _export(module, grown_args, grown_kwargs, dynamic=True)
    except Exception:  # whatever the module or the tracer raises: the batch axis is not free
        program = _static(module, tuple(args), dict(kwargs or {}), name)
        notes.append("the batch axis is static: torch.export could not make it dynamic")
    return functional(program), notes


def functional(program: ExportedProgram) -> ExportedProgram:
    """The same program without operators that write into their inputs."""
    if any(_mutates(node) for node in program.graph.nodes):
        pure: ExportedProgram = quietly(lambda: program.run_decompositions({}))
        return pure
    return program


def quietly(action: Callable[[], _T]) -> _T:
    """Runs ``action`` without torch's warnings about its own internals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return action()


def _mutates(node: Any) -> bool:
    if not is_aten_call(node):
        return False
    if node.target._schema.is_mutable:
        return True
    if base_name(node) not in BATCH_NORMS:
        return False
    bound = arguments_of(node)  # in training mode these write their running statistics
    return bound.get("training") is True and bound.get("running_mean") is not None


def _static(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> ExportedProgram:
    try:
        with torch.no_grad():
            module(*args, **kwargs)
    except Exception as error:  # the user's own code may raise anything
        raise ModelError(
            f"{name} does not run on the example inputs ({first_line(error)}); "
            "check their shapes, names and types"
        ) from None
    try:
        return _export(module, args, kwargs, dynamic=False)
    except Exception as error:  # the tracer raises whatever Python code in the model raises
        raise ModelError(
            f"torch.export cannot trace {name} ({first_line(error)}); try other example inputs, "
            "rewrite the branch that depends on data, or export to ONNX and fold that"
        ) from None


def _export(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, dynamic: bool
) -> ExportedProgram:
    shapes: Any = None
    if dynamic:
        size, batch = _batch_size((args, kwargs)), Dim("batch")

        def axes(leaf: Any) -> Any:
            return {0: batch} if _has_batch(leaf, size) else None

        shapes = pytree.tree_map(axes, (args, kwargs))
        named = _by_name(module, shapes[0])
        shapes = {**named, **shapes[1]} if named is not None else shapes[0]

    def export() -> ExportedProgram:
        with torch.no_grad():
            return torch.export.export(module, args, kwargs or None, dynamic_shapes=shapes)

    return quietly(export)


def _by_name(module: nn.Module, shapes: tuple[Any, ...]) -> dict[str, Any] | None:
    """Positional shapes by parameter name, None where ``forward`` takes any number of them."""
    import inspect

    parameters = list(inspect.signature(module.forward).parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return {p.name: shape for p, shape in zip(parameters, shapes, strict=False)}


def _batch_size(tree: Any) -> int | None:
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, torch.Tensor) and leaf.ndim:
            return int(leaf.shape[0])
    return None


def _has_batch(leaf: Any, size: int | None) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.ndim > 0 and leaf.shape[0] == size


def _with_batch_of_two(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch of one would be taken for a constant by the tracer; it is repeated."""
    if _batch_size((args, kwargs)) != 1:
        return args, kwargs

    def grow(leaf: Any) -> Any:
        return torch.cat([leaf, leaf]) if _has_batch(leaf, 1) else leaf

    grown: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_map(grow, (args, kwargs))
    return grown


def first_line(error: Exception) -> str:
    """The first line of an exception's text that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0].rstrip(".") if lines else type(error).__name__
    return text[:300]
