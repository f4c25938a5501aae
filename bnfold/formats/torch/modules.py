"""Folding and recalibrating in memory: a module or a program comes in, and one comes out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram

from bnfold.errors import UsageError
from bnfold.formats.torch.edit.edited import TorchEdited
from bnfold.formats.torch.file.quiet import quietly
from bnfold.formats.torch.file.state import read_tensors
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.formats.torch.graph.trace import unwrapped
from bnfold.formats.torch.run.calling import ModuleRuns
from bnfold.formats.torch.run.fold import TorchFold
from bnfold.progress import Progress, no_progress
from bnfold.proof.verification import Verification, prove

Arrays = Mapping[str, NDArray[Any]]
Network = nn.Module | ExportedProgram


@dataclass(eq=False)
class FoldInMemory:
    """The outcome of a plan, as what came in.

    ``network`` is what was given: a program gives a program, a module a `GraphModule`, or a copy of
    itself where the classes are kept.
    """

    network: Network
    edited: TorchEdited

    def __post_init__(self) -> None:
        if self.edited.keep_modules and isinstance(self.network, ExportedProgram):
            raise UsageError(
                "keep_modules keeps the classes of a module, and an ExportedProgram has none; "
                "give the module itself"
            )
        self.result: Network = self._made()

    def _made(self) -> Network:
        if isinstance(self.network, ExportedProgram):
            return self.edited.program
        if not self.edited.keep_modules:
            return self.edited.module()
        return with_tensors(self.network, self.changed)

    @property
    def changed(self) -> dict[str, torch.Tensor]:
        """What is new in the unchanged class, by name."""
        kept = self.edited.kept
        return {name: kept.tensors[name] for name in kept.changed}

    def verified(
        self, feeds: Sequence[Arrays], inputs: str, progress: Progress = no_progress
    ) -> Verification:
        """The original beside what will be returned.

        Args:
            feeds: inputs by name, at least one set.
            inputs: where they come from, in words.
            progress: called with the stage, and how much of how much is done.

        Raises:
            RuntimeUnavailableError: where one of them does not run.
        """
        model, plan, result = self.edited.model, self.edited.plan, self.result
        if isinstance(result, ExportedProgram):
            return prove(TorchFold(self.edited, None), model.graph, plan, feeds, inputs, progress)
        fold = TorchFold(self.edited, None, dict(unwrapped(result).state_dict()))
        fold.candidate = ModuleRuns(result, model.program)
        with in_eval_mode(result):
            return prove(fold, model.graph, plan, feeds, inputs, progress)


def with_statistics_of(network: Network, written: Path) -> Network:
    """``network`` with the tensors of the file that its recalibration wrote."""
    if isinstance(network, ExportedProgram):
        from bnfold.formats.torch.graph.open import open_torch

        model = open_torch(written)
        assert isinstance(model, TorchModel)
        return model.program
    own = dict(unwrapped(network).state_dict())
    new = read_tensors(written)
    changed = {n: t for n, t in new.items() if n in own and not torch.equal(own[n].cpu(), t.cpu())}
    return with_tensors(network, changed)


def copied(network: nn.Module) -> nn.Module:
    """A copy of ``network``, without what torch says of its own code on that occasion."""
    found: nn.Module = quietly(lambda: copy.deepcopy(network))
    return found


def with_tensors(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """A copy of ``network`` of its own class, with other elements in some parameters and buffers."""
    result = copied(network)
    inner = unwrapped(result)
    own: dict[str, torch.Tensor] = dict(inner.named_parameters(remove_duplicate=False))
    own |= dict(inner.named_buffers(remove_duplicate=False))
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
    return result


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """``network`` in eval mode, each module afterwards as it was."""
    before = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
