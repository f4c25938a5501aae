"""A module called on arrays, as the runner calls a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from bnfold.errors import RuntimeUnavailableError
from bnfold.formats.torch.file.quiet import first_line, quietly
from bnfold.formats.torch.file.tensors import to_numpy, to_torch

Arrays = Mapping[str, NDArray[Any]]


def caller(module: nn.Module, program: ExportedProgram) -> Callable[[Arrays], list[NDArray[Any]]]:
    """Runs ``module`` itself on inputs by the names of ``program``, which has the same signature."""
    specs = program.graph_signature.input_specs
    user = [s for s in specs if s.kind is InputKind.USER_INPUT]
    first = next((t for t in (*module.parameters(), *module.buffers())), None)
    device = torch.device("cpu") if first is None else first.device

    def run(feeds: Arrays) -> list[NDArray[Any]]:
        leaves = [
            to_torch(np.asarray(feeds[s.arg.name])).to(device)
            if s.arg.name in feeds
            else getattr(s.arg, "value", None)
            for s in user
        ]
        args, kwargs = pytree.tree_unflatten(leaves, program.call_spec.in_spec)
        try:
            with torch.no_grad():
                found = quietly(lambda: pytree.tree_leaves(module(*args, **kwargs)))
        except Exception as error:  # torch raises whatever its operators raise
            raise RuntimeUnavailableError(first_line(error)) from None
        return [to_numpy(y) if isinstance(y, torch.Tensor) else np.asarray(y) for y in found]

    return run
