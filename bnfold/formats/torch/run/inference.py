"""A program run eagerly, for comparisons: its outputs, its inner values, its parameters moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from bnfold.formats.torch.graph.arguments import is_tensor, nodes_in
from bnfold.formats.torch.graph.constants import Constants
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.formats.torch.graph.outputs import output_names
from bnfold.formats.torch.run.runner import Runner, usable_device
from bnfold.graph import Node
from bnfold.proof.comparison import is_float_type
from bnfold.proof.perturbation import perturb
from bnfold.proof.regions import layers
from bnfold.proof.subject import Arrays
from bnfold.recalibration.observer import CPU_DEVICE, RuntimeOptions


class TorchRuns:
    """A program, run eagerly. ``tensors`` replace its parameters, by the name of their node."""

    def __init__(
        self, program: ExportedProgram, tensors: Arrays | None = None, device: str = CPU_DEVICE
    ) -> None:
        self.runtime = f"torch {torch.__version__} eager"
        if device != CPU_DEVICE:
            self.runtime += f" on {device}"
        self.runner = Runner(program, device)
        self.tensors = tensors or {}
        self._names = output_names(program)

    def outputs(self, feeds: Arrays) -> Arrays:
        return self._named(self.runner.outputs(feeds, self.tensors))

    def release(self) -> None:
        """There is nothing to let go of: the program is the model itself."""

    def _named(self, outputs: Sequence[NDArray[Any]]) -> Arrays:
        return dict(zip(self._names, outputs, strict=True))


class TorchReference(TorchRuns):
    """The original program, whose parameters can be moved."""

    def __init__(self, model: TorchModel, nodes: Iterable[Node], device: str = CPU_DEVICE) -> None:
        super().__init__(model.program, device=device)
        self.parameters = parameters_of(nodes, model.constants)

    def perturbed(self, feeds: Arrays, draw: int) -> Arrays:
        return self._named(self.runner.outputs(feeds, self.moved(draw)))

    def inner_names(self) -> list[str]:
        """See `bnfold.proof.divergence.Named`."""
        nodes = self.runner.program.graph.nodes
        return [node.name for node in nodes if node.op == "call_function" and is_tensor(node)]

    def values(self, feeds: Arrays, names: Sequence[str], draw: int | None = None) -> Arrays:
        """Inner values of the main graph, for inputs of the whole."""
        return self.runner.values(feeds, names, self.moved(draw))

    def moved(self, draw: int | None) -> Arrays:
        """The parameters, moved by rounding; none where ``draw`` is None."""
        return {} if draw is None else _Moved(self.parameters, draw)


class _Moved(Mapping[str, NDArray[Any]]):
    """Parameters moved when they are asked for: a piece reads few of them."""

    def __init__(self, parameters: Arrays, draw: int) -> None:
        self._parameters, self._draw = parameters, draw
        self._places = {name: place for place, name in enumerate(parameters)}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return perturb(self._parameters[name], self._draw, self._places[name])

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)


def runs_of(model: TorchModel, options: RuntimeOptions | None = None) -> TorchReference:
    """A model whose layers may all move, for comparing it with any other.

    Raises:
        UsageError: where torch cannot run so.
    """
    options = options or RuntimeOptions()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return TorchReference(model, layers(model.graph), usable_device(options.device))


def parameters_of(nodes: Iterable[Node], constants: Constants) -> dict[str, NDArray[Any]]:
    """The float constants that calls of ``nodes`` read, by the name of their node.

    What a body computes for itself has no such name, and is left out.
    """
    found: dict[str, NDArray[Any]] = {}
    for node in nodes:
        for call in node.native.calls:
            for read in nodes_in((call.args, call.kwargs)):
                constant, given = constants.find(read), constants.bodies.origin(read)
                inner = constants.bodies.around(given)
                if constant is not None and is_float_type(constant.dtype) and inner is None:
                    found[given.name] = np.asarray(constant.load())
    return found
