"""A module called on arrays, as the runner calls a program."""

from __future__ import annotations

from collections.abc import Mapping
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
from bnfold.formats.torch.graph.outputs import output_names

Arrays = Mapping[str, NDArray[Any]]


class ModuleRuns:
    """See `bnfold.proof.subject.Runs`: a module itself, which has the signature of ``program``."""

    def __init__(self, module: nn.Module, program: ExportedProgram) -> None:
        self.runtime = f"torch {torch.__version__} eager"
        self._module, self._program = module, program
        specs = program.graph_signature.input_specs
        self._inputs = [s for s in specs if s.kind is InputKind.USER_INPUT]
        self._names = output_names(program)
        first = next((t for t in (*module.parameters(), *module.buffers())), None)
        self._device = torch.device("cpu") if first is None else first.device

    def outputs(self, feeds: Arrays) -> Arrays:
        leaves = [
            to_torch(np.asarray(feeds[s.arg.name])).to(self._device)
            if s.arg.name in feeds
            else getattr(s.arg, "value", None)
            for s in self._inputs
        ]
        args, kwargs = pytree.tree_unflatten(leaves, self._program.call_spec.in_spec)
        try:
            with torch.no_grad():
                found = quietly(lambda: pytree.tree_leaves(self._module(*args, **kwargs)))
        except Exception as error:  # torch raises whatever its operators raise
            raise RuntimeUnavailableError(first_line(error)) from None
        arrays = [to_numpy(y) if isinstance(y, torch.Tensor) else np.asarray(y) for y in found]
        return dict(zip(self._names, arrays, strict=True))

    def release(self) -> None:
        """There is nothing to let go of: the module is the caller's."""
