"""Pieces of an exported program, run eagerly, with the statistics under measurement as arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from bnfold.algebra.rounding import cast
from bnfold.errors import UsageError
from bnfold.formats.torch.edit.statistics import STATISTICS
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.formats.torch.run.moments import torch_moments
from bnfold.formats.torch.run.runner import Runner, usable_device
from bnfold.graph import Graph, Node
from bnfold.kinds import Norm
from bnfold.recalibration.observer import CPU_PROVIDER, RuntimeOptions

if TYPE_CHECKING:
    from bnfold.recalibration.observer import Arrays, Convention, Statistics

_PARAMETERS = (*STATISTICS, "weight", "bias")


class TorchObserver:
    """One program whose statistics are being measured.

    The convention is torch's own: a BatchNorm in training stores the unbiased variance,
    https://pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html.
    """

    convention: Convention = "unbiased"
    measure = staticmethod(torch_moments)

    def __init__(self, model: TorchModel, options: RuntimeOptions | None = None) -> None:
        """Takes an opened model, which is not changed.

        Args:
            model: the model.
            options: how to run; the number of threads is that of the whole process.

        Raises:
            UsageError: where torch cannot run so.
        """
        options = options or RuntimeOptions()
        if options.provider != CPU_PROVIDER:
            raise UsageError("--provider is for ONNX models; a PyTorch model runs with --device")
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        device = usable_device(options.device)
        self.runtime = f"torch {torch.__version__}, eager, on {device}"
        self._model = model
        self._runner = Runner(model.program, device, borrow=True)
        self.always = self._sized_inputs()

    @property
    def graph(self) -> Graph:
        return self._model.graph

    def same_layer(self, node: Node) -> object:
        """Calls of one module read the same four tensors."""
        return tuple(_name(node.native.parameter(p)) for p in _PARAMETERS)

    def piece(
        self, inputs: Mapping[str, np.dtype[Any]], outputs: Sequence[str], nodes: Sequence[Node]
    ) -> TorchPiece:
        """See `recalibration.observer.Observer`."""
        names = {v.name: call.name for v, call in self._model.oracle.calls.items()}
        return TorchPiece(self._runner, [(name, names[name]) for name in outputs], names, nodes)

    def _sized_inputs(self) -> tuple[str, ...]:
        """All inputs, where some node of the program is a size; none in a program of fixed sizes."""
        sizes = (torch.SymInt, torch.SymFloat, torch.SymBool)
        values = (node.meta.get("val") for node in self._model.program.graph.nodes)
        dynamic = any(isinstance(value, sizes) for value in values)
        return tuple(spec.name for spec in self._model.inputs) if dynamic else ()


class TorchPiece:
    """A part of the program; what its outputs do not need is not run."""

    def __init__(
        self,
        runner: Runner,
        outputs: Sequence[tuple[str, str]],
        names: Mapping[str, str],
        nodes: Sequence[Node],
    ) -> None:
        self._runner, self._outputs, self._names = runner, outputs, names
        self._wanted = list(dict.fromkeys(name for _, name in outputs))
        self._arguments = {node.name: _arguments(node) for node in nodes}
        # What the runner gets for the statistics of a layer, which are the same for many batches.
        self._cast: dict[str, tuple[Statistics, dict[str, NDArray[Any]]]] = {}

    def run(self, feeds: Arrays, statistics: Mapping[str, Statistics]) -> Arrays:
        """See `recalibration.observer.Piece`."""
        given = {self._names.get(name, name): array for name, array in feeds.items()}
        replaced: dict[str, NDArray[Any]] = {}
        for name in self._arguments:
            replaced |= self._parameters(name, statistics[name])
        found = self._runner.values(given, self._wanted, replaced)
        return {name: found[call] for name, call in self._outputs}

    def _parameters(self, name: str, statistics: Statistics) -> dict[str, NDArray[Any]]:
        """The running mean and variance of a layer, by the names of the program's parameters."""
        known = self._cast.get(name)
        if known is None or known[0] is not statistics:
            names, dtype = self._arguments[name]
            pair = (statistics.mean, statistics.variance)
            arrays = {n: cast(array, dtype) for n, array in zip(names, pair, strict=True)}
            known = self._cast[name] = statistics, arrays
        return known[1]


def _arguments(node: Node) -> tuple[list[str], np.dtype[Any]]:
    """The parameters that a layer reads its statistics from, and their type."""
    assert isinstance(node.kind, Norm)
    return [node.native.parameter(name).name for name in STATISTICS], node.kind.dtype


def _name(argument: Any) -> str | None:
    name: str | None = getattr(argument, "name", None)
    return name
