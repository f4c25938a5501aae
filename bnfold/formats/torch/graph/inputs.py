"""Example inputs for tracing: from shapes on the command line, or from a data sample."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bnfold.data import InputSpec, Sample
from bnfold.errors import DataError, UsageError
from bnfold.formats.torch.file.tensors import to_torch
from bnfold.formats.torch.graph.dict_inputs import keys_read, runs_on

_SPEC = re.compile(
    r"^(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>\d+(?:x\d+)*|scalar)(?::(?P<dtype>\w+))?$"
)
_SHORT = {
    "float": "float32",
    "half": "float16",
    "double": "float64",
    "int": "int32",
    "long": "int64",
}


@dataclass(frozen=True)
class ExampleInputs:
    """What a module is called with when it is traced, and notes on how that was chosen."""

    positional: Sequence[Any]
    named: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def parse_inputs(specs: Sequence[str]) -> ExampleInputs:
    """Positional and named example tensors for specs such as ``1x3x224x224`` or ``ids=1x16:int64``.

    Floating-point values are normally distributed, always the same; integers are 0 or 1.

    Raises:
        UsageError: where a spec is none, or positional ones come after named ones.
    """
    generator = torch.Generator().manual_seed(0)
    positional: list[torch.Tensor] = []
    named: dict[str, torch.Tensor] = {}
    for spec in specs:
        found = _SPEC.match(spec.replace(" ", ""))
        if not found:
            raise UsageError(
                f"{spec!r} is no input: write sizes as 1x3x224x224, a type behind a colon "
                "(1x16:int64), a name before an equals sign (ids=1x16:int64)"
            )
        tensor = _example(found, spec, generator)
        if found["name"]:
            named[found["name"]] = tensor
        elif named:
            raise UsageError(f"input {spec!r} has no name, yet stands behind named ones")
        else:
            positional.append(tensor)
    return ExampleInputs(positional, named)


def _example(found: re.Match[str], spec: str, generator: torch.Generator) -> torch.Tensor:
    shape = [] if found["shape"] == "scalar" else [int(n) for n in found["shape"].split("x")]
    name = _SHORT.get(found["dtype"] or "float32", found["dtype"] or "float32")
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(f"{spec!r} names no element type; use float32, float16, int64 or the like")
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


@dataclass(frozen=True)
class Takes:
    """What ``forward`` takes: inputs by name, and whether it takes any other name besides."""

    inputs: tuple[InputSpec, ...]
    any_name: bool

    @classmethod
    def of(cls, module: nn.Module) -> Takes:
        """Types and sizes are not known yet; what has a default is optional.

        Raises:
            UsageError: where the names do not say how many inputs there are.
        """
        schema = getattr(module.forward, "schema", None)  # of TorchScript
        if schema is not None:
            arguments = [a for a in schema.arguments if a.name != "self"]
            optional = {a.name: bool(a.has_default_value()) for a in arguments}
            return cls(tuple(InputSpec(n, None, None, o) for n, o in optional.items()), False)
        parameters = inspect.signature(module.forward).parameters.values()
        any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
        if any(p.kind is p.VAR_POSITIONAL for p in parameters) and not any_name:
            raise UsageError(
                f"{type(module).__name__} takes any number of inputs; give each with --input, or "
                "as example inputs"
            )
        named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        specs = (InputSpec(p.name, None, None, p.default is not p.empty) for p in named)
        return cls(tuple(specs), any_name)


def from_sample(
    examples: Callable[[Sequence[InputSpec]], Sample], module: nn.Module
) -> ExampleInputs:
    """Example inputs from a data sample, numbers that are not whole in the module's own type.

    Every array that ``forward`` takes by name goes in: by position what has no default, as most
    callers of the program will give it, by keyword what has one.

    Raises:
        UsageError: where the names of ``forward`` do not say how many inputs there are.
        DataError: where the data has nothing for an input.
    """
    takes = Takes.of(module)
    try:
        sample = examples(takes.inputs)
    except DataError:
        with suppress(DataError):
            if (whole := _as_one_dict(examples, module, takes)) is not None:
                return whole
        raise
    if takes.any_name and takes.inputs and sample.source.left_out:
        others = tuple(InputSpec(name, None, None, True) for name in sample.source.left_out)
        sample = examples((*takes.inputs, *others))
    found = {name: _typed(array, module) for name, array in sample.read(0, sample.count).items()}
    if len(found) == 1 and not runs_on(module, *found.values()):
        whole = _as_one_dict(examples, module, takes)  # its single array may stand in a dict
        if whole is not None:
            return whole
    first = {spec.name for spec in takes.inputs if not spec.optional} & set(_positional(module))
    notes: list[str] = []
    if sample.source.surplus and any(spec.optional for spec in takes.inputs):
        notes.append(
            f"the data yields {sample.source.surplus} arrays more than forward needs "
            f"({', '.join(found)}); where one of them is an input, yield dicts by name"
        )
    return ExampleInputs(
        [tensor for name, tensor in found.items() if name in first or not name],
        {name: tensor for name, tensor in found.items() if name not in first and name},
        tuple(notes),
    )


def _as_one_dict(
    examples: Callable[[Sequence[InputSpec]], Sample], module: nn.Module, takes: Takes
) -> ExampleInputs | None:
    """A whole batch as the one thing that ``forward`` takes, what it reads of that; None where it
    takes something else."""
    required = [spec.name for spec in takes.inputs if not spec.optional]
    if takes.any_name or len(required) != 1 or required[0] not in _positional(module):
        return None
    sample = examples(())
    found = {name: _typed(array, module) for name, array in sample.read(0, sample.count).items()}
    if "" in found or set(found) & {spec.name for spec in takes.inputs}:
        return None
    read = keys_read(module, found)
    return None if read is None else ExampleInputs([{n: found[n] for n in found if n in read}], {})


def _positional(module: nn.Module) -> list[str]:
    """The parameters of ``forward`` that may be given by position."""
    schema = getattr(module.forward, "schema", None)  # of TorchScript
    if schema is not None:
        return [a.name for a in schema.arguments]
    parameters = inspect.signature(module.forward).parameters.values()
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _typed(array: NDArray[Any], module: nn.Module) -> torch.Tensor:
    own = (p.dtype for p in (*module.parameters(), *module.buffers()) if p.is_floating_point())
    tensor = to_torch(np.asarray(array))
    return tensor.to(next(own, torch.float32)) if tensor.is_floating_point() else tensor


def bind(
    module: nn.Module, positional: Sequence[Any], named: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How the example inputs are handed to ``module``: by position, by keyword, or as one dict."""
    if not named:
        return tuple(positional), {}
    parameters = inspect.signature(module.forward).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if takes_any or set(named) <= set(parameters):
        return tuple(positional), dict(named)
    if not positional and len(parameters) == 1:
        return (dict(named),), {}
    if len(named) == 1 and not positional:
        return tuple(named.values()), {}
    unknown = sorted(set(named) - set(parameters))
    raise UsageError(
        f"{type(module).__name__} takes no input named {', '.join(unknown)}; "
        f"it takes {', '.join(parameters) or 'none'}"
    )
