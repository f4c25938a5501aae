"""What a format provides for recalibration: subgraphs (pieces) that run and return activations.

A piece lies between values of the neutral graph. The running mean and variance of the BatchNorm
layers under recalibration are arguments of every run, so that one piece serves all estimates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.graph import Graph, Node
from bnfold.kinds import Norm
from bnfold.recalibration.batches import Measure

Arrays = Mapping[str, NDArray[Any]]
Convention = Literal["biased", "unbiased"]
CPU_PROVIDER, CPU_DEVICE = "CPUExecutionProvider", "cpu"


@dataclass(frozen=True)
class RuntimeOptions:
    """How pieces run.

    ``threads`` None: the runtime's choice. ``provider``: onnxruntime's, for ONNX models.
    ``device``: torch's, as ``cuda`` or ``cuda:1``, for PyTorch models.
    """

    threads: int | None = None
    provider: str = CPU_PROVIDER
    device: str = CPU_DEVICE


@dataclass(frozen=True, eq=False)
class Statistics:
    """A running mean and variance: shape ``(C,)``, float64."""

    mean: Array
    variance: Array


@dataclass(frozen=True, eq=False)
class Population:
    """The BatchNorm nodes that are calls of one layer: what reaches any of them is one population."""

    nodes: tuple[Node, ...]

    @property
    def name(self) -> str:
        return self.nodes[0].name

    @property
    def norm(self) -> Norm:
        kind = self.nodes[0].kind
        assert isinstance(kind, Norm)
        return kind

    @property
    def epsilon(self) -> float:
        assert self.norm.epsilon is not None  # otherwise it is out of reach
        return self.norm.epsilon

    @property
    def values(self) -> tuple[str, ...]:
        """The names of the values that are normalised."""
        return tuple(node.inputs[0].name for node in self.nodes)

    @property
    def stored(self) -> Statistics:
        return Statistics(self.norm.mean, self.norm.variance)


class Piece(Protocol):
    """A part of a network between some of its values."""

    def run(self, feeds: Arrays, statistics: Mapping[str, Statistics]) -> Arrays:
        """The piece's outputs by value name.

        Args:
            feeds: arrays by value name, one for each of the piece's inputs.
            statistics: by node name, for each BatchNorm under recalibration in the piece.

        Raises:
            RuntimeUnavailableError: where the run fails.
        """


class Observer(Protocol):
    """Cuts pieces out of one model whose statistics are being measured anew."""

    runtime: str
    convention: Convention
    # Inputs of the model that every piece has to be fed: those whose sizes its nodes may ask for.
    always: tuple[str, ...]

    @property
    def graph(self) -> Graph: ...

    @property
    def measure(self) -> Measure:
        """How the moments of activations are taken: `sample_moments`, or the same in the runtime."""

    def same_layer(self, node: Node) -> object:
        """A key that is equal for two BatchNorm nodes exactly where they are calls of one layer."""

    def piece(
        self, inputs: Mapping[str, np.dtype[Any]], outputs: Sequence[str], nodes: Sequence[Node]
    ) -> Piece:
        """The part that computes ``outputs`` from ``inputs`` (value names; element types).

        ``nodes`` are the BatchNorm in it whose statistics are given with each run.

        Raises:
            RuntimeUnavailableError: where no runtime executes it.
        """
