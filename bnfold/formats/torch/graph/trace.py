"""torch.export as the front door: from a module and example inputs to a functional program."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from bnfold.errors import ModelError, TracingError, UsageError
from bnfold.formats.torch.file.quiet import first_line, quietly
from bnfold.formats.torch.graph.axes import (
    AUTO,
    BATCH,
    STATIC,
    Inputs,
    cloned,
    first_row,
    shapes_for,
    with_batch_of_two,
    with_other_sizes,
)
from bnfold.formats.torch.graph.in_place import functional, without_plain_writes

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_TRACED = 1e-4  # of the range: the same operators, perhaps in other kernels


def trace(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    free: Any = None,
) -> tuple[ExportedProgram, list[str]]:
    """The program of a copy of ``module`` in eval mode, and notes on what was done for that.

    The module itself is not touched.

    Args:
        module: a module, or what torch.compile or DataParallel made of it.
        args: what to call it with, by position.
        kwargs: and by name.
        free: which axes are dynamic, where the module allows that. None: the batch, which is the
            first of every tensor. ``auto``: all. Otherwise what torch.export takes, and must have.

    Raises:
        ModelError: where torch.export cannot trace it; the message says what to try.
    """
    notes: list[str] = []
    wrapper, module = type(module).__name__, unwrapped(module)
    name = type(module).__name__
    if wrapper != name:
        notes.append(f"{wrapper} was taken off {name}; names come without its prefix")
    if any(m.training for m in module.modules()):
        notes.append(f"{name} was in training mode; a copy was put into eval mode")
    module = _copied(module, name).eval()
    own = cloned((tuple(args), dict(kwargs or {})))
    program = _traced(module, own, name, BATCH if free is None else free, notes)
    return _functional(module, program, own, name), notes


def _functional(
    module: nn.Module, program: ExportedProgram, own: Inputs, name: str
) -> ExportedProgram:
    """What `functional` makes of a program, if that computes what the module does."""
    try:
        pure = functional(program)
        why = "it computes something else then"
        same = pure is program or computes_the_same(module, _as_module(pure), own)
    except Exception as error:  # torch raises whatever its passes meet
        same, why = False, first_line(error)
    if not same:
        raise TracingError(
            f"{name} writes into a tensor in a way that torch cannot take out ({why})",
            "register that tensor as a buffer of its own, or return it instead",
        )
    return pure


def _traced(
    module: nn.Module, own: Inputs, name: str, free: Any, notes: list[str]
) -> ExportedProgram:
    """With the axes free that should be, or with as many as can be; what cannot be is noted."""
    if not isinstance(free, str):
        return _as_asked(module, own, name, free)
    if free == AUTO:
        try:
            return _checked(module, own, AUTO)
        except Exception as error:  # whatever the module or the tracer raises
            why = error if isinstance(error, ModelError) else "torch.export could not free them"
            notes.append(f"sizes other than the batch are static: {why}")
    try:
        return _checked(module, own, BATCH)
    except Exception as error:  # whatever the module or the tracer raises: the axis is not free
        program = _static(module, own, name)
        why = error if isinstance(error, ModelError) else "torch.export could not make it dynamic"
        notes.append(f"the batch axis is static: {why}")
        return program


def _as_asked(module: nn.Module, own: Inputs, name: str, free: Any) -> ExportedProgram:
    try:
        program = _export(_fresh(module), own, free)
    except UsageError:
        raise
    except Exception as error:  # the tracer raises whatever Python code in the model raises
        raise ModelError(
            f"torch.export cannot trace {name} with these dynamic axes ({first_line(error)}); "
            "free fewer, or let it choose with auto"
        ) from None
    if not computes_the_same(module, _as_module(program), own):
        raise ModelError(f"{name} computes something else when these axes are dynamic; free fewer")
    return program


def _checked(module: nn.Module, own: Inputs, free: str) -> ExportedProgram:
    """A program that was tried out on other sizes than those it was traced on."""
    program = _export(_fresh(module), with_batch_of_two(own), free)
    traced = _as_module(program)
    _check_batches(module, traced, own)
    other = with_other_sizes(program) if free == AUTO else None
    same = True
    with suppress(Exception):  # a guard, or the module's own code: sizes that are refused
        same = other is None or computes_the_same(module, traced, other)
    if not same:
        raise ModelError("its Python code depends on them")
    return program


def unwrapped(module: nn.Module) -> nn.Module:
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
    return unwrapped(inner) if isinstance(inner, nn.Module) else module


def _fresh(module: nn.Module) -> nn.Module:
    """A copy that shares the parameters of ``module``, for one run: that may leave its traces in
    buffers and Python attributes, which the next would go on from."""
    shared = {id(parameter): parameter for parameter in module.parameters()}
    return quietly(lambda: copy.deepcopy(module, shared))


def _check_batches(module: nn.Module, traced: nn.Module, own: Inputs) -> None:
    """Raises where the program computes something else for the user's own inputs, or for one sample."""
    same = computes_the_same(module, traced, own)
    with suppress(
        Exception
    ):  # a guard, or the module's own code: sizes that are refused are not wrong
        same = same and computes_the_same(module, traced, first_row(own))
    if not same:
        raise ModelError("its Python code depends on the batch size")


def _copied(module: nn.Module, name: str) -> nn.Module:
    try:
        return quietly(lambda: copy.deepcopy(module))
    except Exception as error:  # a tensor that is the outcome of a computation, say
        raise ModelError(
            f"{name} cannot be copied ({first_line(error)}); call remove_weight_norm, "
            "remove_spectral_norm or remove_parametrizations first, or load its state dict into a "
            "new one"
        ) from None


def checked_functional(program: ExportedProgram, path: object) -> ExportedProgram:
    """`functional` of a program that somebody else traced, compared with it on its example inputs.

    Raises:
        ModelError: where torch makes something else of it.
    """
    pure = functional(program)
    if pure is program or program.example_inputs is None:
        return pure
    args, kwargs = program.example_inputs
    own, other = (
        outputs_of(_as_module(each), (tuple(args), dict(kwargs))) for each in (program, pure)
    )
    if same_outputs(own, other, _TRACED):
        return pure
    raise ModelError(
        f"{path} writes into a tensor that another value shares, and torch cannot take that out; "
        "export it again without in-place operators"
    )


def _static(module: nn.Module, own: Inputs, name: str) -> ExportedProgram:
    try:
        program = _export(_fresh(module), own, STATIC)
    except Exception as error:  # the tracer raises whatever Python code in the model raises
        raise _why_not(module, own, name, error) from None
    if not computes_the_same(module, _as_module(program), own):
        raise TracingError(
            f"what torch.export traced of {name} computes something else than {name} does",
            "a branch in its code depends on data or on what it did before: rewrite that",
        )
    return program


def _why_not(module: nn.Module, own: Inputs, name: str, error: Exception) -> TracingError:
    try:
        outputs_of(_fresh(module), own)
    except Exception as failure:  # the user's own code may raise anything
        return TracingError(
            f"{name} does not run on the example inputs ({first_line(failure)})",
            "check their shapes, names and types",
        )
    return TracingError(
        f"torch.export cannot trace {name} ({first_line(error)})",
        "try other example inputs, rewrite the branch that depends on data, fold the submodules "
        "that trace with --keep-modules (in Python keep_modules=True), or export to ONNX with the "
        "exporter that does not need it (torch.onnx.export(..., dynamo=False)) and fold that",
    )


def _as_module(program: ExportedProgram) -> nn.Module:
    made: nn.Module = quietly(lambda: program.module())
    return made


def computes_the_same(module: nn.Module, traced: nn.Module, inputs: Inputs) -> bool:
    """Whether a module and its program, as a module, give the same on these inputs.

    A tracer follows one way through Python code, and not every condition on it becomes a guard.
    """
    own = outputs_of(_fresh(module), inputs)
    return same_outputs(own, outputs_of(traced, inputs), _TRACED)


def same_outputs(own: Sequence[Any], others: Sequence[Any], within: float) -> bool:
    """Whether all leaves are equal, tensors to ``within`` of their range."""
    pairs = zip(own, others, strict=False)
    return len(own) == len(others) and all(_equal(a, b, within) for a, b in pairs)


def outputs_of(run: nn.Module, inputs: Inputs) -> list[Any]:
    """The leaves of what ``run`` returns; its buffers are afterwards as before."""
    buffers = [(buffer, buffer.clone()) for buffer in run.buffers()]
    try:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            args, kwargs = cloned(inputs)
            found = pytree.tree_leaves(run(*args, **kwargs))
            return [leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in found]
    finally:
        with torch.no_grad():  # a traced program shares them with its module form
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def _equal(a: Any, b: Any, within: float) -> bool:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        # Objects that pytree does not open (a cache of keys and values) are equal to themselves alone.
        return bool(a == b) if isinstance(a, _PLAIN) else type(a) is type(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return bool((a == b).all())
    range_of = a[a.isfinite()].abs().max() if a.isfinite().any() else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=within * float(range_of), equal_nan=True)


def _export(module: nn.Module, inputs: Inputs, free: Any) -> ExportedProgram:
    args, kwargs = inputs
    shapes = shapes_for(module, inputs, free)

    def export() -> ExportedProgram:
        # torch prints the graph there that it could not finish.
        with torch.no_grad(), redirect_stderr(io.StringIO()):
            return torch.export.export(module, args, kwargs or None, dynamic_shapes=shapes)

    program = quietly(export)
    without_plain_writes(program)
    return program
