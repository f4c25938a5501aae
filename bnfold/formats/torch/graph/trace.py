"""torch.export as the front door: from a module and example inputs to a functional program."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, repeat
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from bnfold.errors import ModelError
from bnfold.formats.torch.file.quiet import first_line, quietly
from bnfold.formats.torch.graph.arguments import mutates

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""What a module is called with: by position, and by keyword."""
_TRACED = 1e-4  # of the range: the same operators, perhaps in other kernels


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
    wrapper, module = type(module).__name__, _unwrapped(module)
    name = type(module).__name__
    if wrapper != name:
        notes.append(f"{wrapper} was taken off {name}; names come without its prefix")
    if any(m.training for m in module.modules()):
        notes.append(f"{name} was in training mode; a copy was put into eval mode")
    module = _copied(module, name).eval()
    own = _cloned((tuple(args), dict(kwargs or {})))
    try:
        program = _export(_fresh(module), _with_batch_of_two(own), dynamic=True)
        _check_batches(module, program, own)
    except Exception as error:  # whatever the module or the tracer raises: the axis is not free
        program = _static(module, own, name)
        why = error if isinstance(error, ModelError) else "torch.export could not make it dynamic"
        notes.append(f"the batch axis is static: {why}")
    try:
        return functional(program), notes
    except Exception as error:  # torch raises whatever its passes meet
        raise ModelError(
            f"{name} writes into a tensor in a way that torch cannot take out ({first_line(error)}); "
            "register that tensor as a buffer of its own, or return it instead"
        ) from None


def _unwrapped(module: nn.Module) -> nn.Module:
    """What torch.compile or DataParallel was called on.

    Raises:
        ModelError: where it is TorchScript, which has another way in.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            "a ScriptModule cannot be traced; save it with torch.jit.save and open that file, or "
            "give the module that it was scripted from"
        )
    inner = getattr(module, "_orig_mod", None)
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = module.module
    return _unwrapped(inner) if isinstance(inner, nn.Module) else module


def _fresh(module: nn.Module) -> nn.Module:
    """A copy that shares the parameters of ``module``, for one run: that may leave its traces in
    buffers and Python attributes, which the next would go on from."""
    shared = {id(parameter): parameter for parameter in module.parameters()}
    return copy.deepcopy(module, shared)


def _check_batches(module: nn.Module, program: ExportedProgram, own: Inputs) -> None:
    """Raises where the program computes something else for the user's own inputs, or for one sample."""
    same = computes_the_same(module, program, own)
    with suppress(
        Exception
    ):  # a guard, or the module's own code: sizes that are refused are not wrong
        same = same and computes_the_same(module, program, _first_row(own))
    if not same:
        raise ModelError("its Python code depends on the batch size")


def _copied(module: nn.Module, name: str) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:  # a tensor that is the outcome of a computation, say
        raise ModelError(
            f"{name} cannot be copied ({first_line(error)}); call remove_weight_norm, "
            "remove_spectral_norm or remove_parametrizations first, or load its state dict into a "
            "new one"
        ) from None


def functional(program: ExportedProgram) -> ExportedProgram:
    """The same program without operators that write into their inputs."""
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, GraphModule)]
    if any(mutates(node) for graph in graphs for node in graph.nodes):
        pure: ExportedProgram = quietly(lambda: program.run_decompositions({}))
        return pure
    return program


def _static(module: nn.Module, own: Inputs, name: str) -> ExportedProgram:
    try:
        program = _export(_fresh(module), own, dynamic=False)
    except Exception as error:  # the tracer raises whatever Python code in the model raises
        raise ModelError(_why_not(module, own, name, error)) from None
    if not computes_the_same(module, program, own):
        raise ModelError(
            f"what torch.export traced of {name} computes something else than {name} does; a branch "
            "in its code depends on data or on what it did before: rewrite that"
        )
    return program


def _why_not(module: nn.Module, own: Inputs, name: str, error: Exception) -> str:
    try:
        _outputs(_fresh(module), own)
    except Exception as failure:  # the user's own code may raise anything
        return (
            f"{name} does not run on the example inputs ({first_line(failure)}); "
            "check their shapes, names and types"
        )
    return (
        f"torch.export cannot trace {name} ({first_line(error)}); try other example inputs, "
        "rewrite the branch that depends on data, or export to ONNX and fold that"
    )


def computes_the_same(module: nn.Module, program: ExportedProgram, inputs: Inputs) -> bool:
    """Whether both give the same on these inputs.

    A tracer follows one way through Python code, and not every condition on it becomes a guard.
    """
    own = _outputs(_fresh(module), inputs)
    traced = _outputs(quietly(lambda: program.module()), inputs)
    return len(own) == len(traced) and all(map(_equal, own, traced))


def _outputs(run: nn.Module, inputs: Inputs) -> list[Any]:
    """The leaves of what ``run`` returns; its buffers are afterwards as before."""
    buffers = [(buffer, buffer.clone()) for buffer in run.buffers()]
    try:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            args, kwargs = _cloned(inputs)
            found = pytree.tree_leaves(run(*args, **kwargs))
            return [leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in found]
    finally:
        with torch.no_grad():  # a traced program shares them with its module form
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def _equal(a: Any, b: Any) -> bool:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return bool(a == b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return bool((a == b).all())
    range_of = a[a.isfinite()].abs().max() if a.isfinite().any() else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=_TRACED * float(range_of), equal_nan=True)


def _export(module: nn.Module, inputs: Inputs, *, dynamic: bool) -> ExportedProgram:
    args, kwargs = inputs
    shapes: Any = None
    if dynamic:
        size = _batch_size(inputs)
        # The first is the batch; torch finds out which others have to be the same.
        free = chain([Dim("batch")], repeat(Dim.AUTO))

        def axes(leaf: Any) -> Any:
            return {0: next(free)} if _has_batch(leaf, size) else None

        shapes = _by_name(module, *pytree.tree_map(axes, inputs))

    def export() -> ExportedProgram:
        with torch.no_grad():
            return torch.export.export(module, args, kwargs or None, dynamic_shapes=shapes)

    return quietly(export)


def _by_name(
    module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    """Shapes by the name of the parameter of ``forward`` that takes them."""
    parameters = inspect.signature(module.forward).parameters.values()
    rest = list(positional)
    found: dict[str, Any] = {}
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            found |= {p.name: tuple(rest)} if rest else {}
            rest = []
        elif rest and p.kind is not p.KEYWORD_ONLY:
            found[p.name] = rest.pop(0)
        elif p.name in named:
            found[p.name] = named[p.name]
    return found


def _batch_size(tree: Any) -> int | None:
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, torch.Tensor) and leaf.ndim:
            return int(leaf.shape[0])
    return None


def _has_batch(leaf: Any, size: int | None) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.ndim > 0 and leaf.shape[0] == size


def _changed(own: Inputs, change: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
    """The same inputs, each tensor among them replaced."""
    changed: Inputs = pytree.tree_map_only(torch.Tensor, change, own)
    return changed


def _cloned(own: Inputs) -> Inputs:
    """Tensors of their own: the tracer takes one tensor given twice for one input, and a module
    may write into what it is given."""
    return _changed(own, lambda tensor: tensor.detach().clone())


def _first_row(own: Inputs) -> Inputs:
    """The same inputs, one sample of them."""
    size = _batch_size(own)
    return _changed(own, lambda tensor: tensor[:1] if _has_batch(tensor, size) else tensor)


def _with_batch_of_two(own: Inputs) -> Inputs:
    """A batch of one would be taken for a constant by the tracer; it is repeated."""
    if _batch_size(own) != 1:
        return own
    return _changed(own, lambda t: torch.cat([t, t]) if _has_batch(t, 1) else t)
