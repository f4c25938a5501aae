"""Example inputs for tracing: from shapes on the command line, or from a data sample."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bnfold.data import InputSpec
from bnfold.errors import UsageError
from bnfold.formats.torch.file.tensors import to_torch

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


def parse_inputs(specs: Sequence[str]) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
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
    return positional, named


def _example(found: re.Match[str], spec: str, generator: torch.Generator) -> torch.Tensor:
    shape = [] if found["shape"] == "scalar" else [int(n) for n in found["shape"].split("x")]
    name = _SHORT.get(found["dtype"] or "float32", found["dtype"] or "float32")
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(f"{spec!r} names no element type; use float32, float16, int64 or the like")
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


def wanted_inputs(module: nn.Module) -> list[InputSpec]:
    """What ``forward`` cannot do without, by name; types and sizes are not known yet.

    Raises:
        UsageError: where the names do not say how many inputs there are.
    """
    schema = getattr(module.forward, "schema", None)  # of TorchScript
    if schema is not None:
        arguments = [a for a in schema.arguments if a.name != "self"]
        names = [a.name for a in arguments if not a.has_default_value()]
    else:
        parameters = inspect.signature(module.forward).parameters.values()
        required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        if any(p.kind in (p.VAR_POSITIONAL, p.KEYWORD_ONLY) for p in required):
            raise UsageError(
                f"{type(module).__name__} takes inputs by keyword only, or any number of them; "
                "give each with --input"
            )
        names = [p.name for p in required]
    return [InputSpec(name, None, None) for name in names]


def from_arrays(arrays: Mapping[str, NDArray[Any]], module: nn.Module) -> list[torch.Tensor]:
    """Example tensors from a data sample, numbers that are not whole in the module's own type."""
    own = (p.dtype for p in (*module.parameters(), *module.buffers()) if p.is_floating_point())
    dtype = next(own, torch.float32)
    tensors = [to_torch(np.asarray(array)) for array in arrays.values()]
    return [t.to(dtype) if t.is_floating_point() else t for t in tensors]


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
