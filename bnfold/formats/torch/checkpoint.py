"""A state dict alone: its BatchNorm are known by their buffers, everything around them is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.data import InputSpec
from bnfold.errors import UsageError
from bnfold.files import file_sha256
from bnfold.formats.torch.state import without_prefixes
from bnfold.formats.torch.tensors import numpy_dtype, to_numpy
from bnfold.graph import Graph, Node, Norm, Obstacle, Shape, Value
from bnfold.planning import Plan
from bnfold.recalibration.edit import Restatistic
from bnfold.recalibration.observer import RuntimeOptions
from bnfold.verification import Arrays, Bench


class TorchCheckpoint:
    """A checkpoint without the code of its network. It can be inspected, not folded."""

    format = "torch-checkpoint"

    def __init__(self, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
        self.path = path
        self.tensors = {short: tensors[name] for name, short in without_prefixes(tensors).items()}
        self.notes = [
            "a checkpoint holds no graph: epsilon, momentum and the layers around each BatchNorm "
            "are unknown; name a factory with --weights to fold"
        ]

    @cached_property
    def graph(self) -> Graph:
        """Norms only, each by itself."""
        nodes = [_norm(name, self.tensors) for name in norm_names(self.tensors)]
        return Graph(nodes, _NoOracle(), list(self.notes))

    @cached_property
    def sha256(self) -> str:
        return file_sha256(self.path)

    @property
    def node_count(self) -> int:
        return 0

    @property
    def batch_norm_count(self) -> int:
        return len(self.graph.nodes)

    @property
    def inputs(self) -> Sequence[InputSpec]:
        return ()

    def generated_inputs(self) -> Sequence[Arrays]:
        raise self._no_graph("run")

    @property
    def file(self) -> Path:
        return self.path

    def edit(self, plan: Plan, *, keep_modules: bool = False) -> Any:
        raise self._no_graph("folded")

    def comparison(self, other: Any, scratch: Path) -> Bench:
        raise self._no_graph("compared")

    def observer(self, scratch: Path, options: RuntimeOptions) -> Any:
        raise self._no_graph("run")

    def restated(self, edits: Sequence[Restatistic]) -> Any:
        raise self._no_graph("recalibrated")

    def _no_graph(self, what: str) -> UsageError:
        return UsageError(
            f"{self.path} is a checkpoint without its network, so it cannot be {what}; "
            f"name the code: package.module:factory --weights {self.path} --input 1x3x224x224"
        )


def norm_names(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The owners of a running mean and a running variance of the same shape, in their order."""
    owners = (name[: -len("running_mean")] for name in tensors if name.endswith("running_mean"))
    found = []
    for owner in owners:
        mean, variance = tensors[f"{owner}running_mean"], tensors.get(f"{owner}running_var")
        if variance is not None and mean.ndim == 1 and mean.shape == variance.shape:
            found.append(owner.rstrip("."))
    return found


def _norm(name: str, tensors: Mapping[str, torch.Tensor]) -> Node:
    prefix = f"{name}." if name else ""
    mean = tensors[f"{prefix}running_mean"]
    channels = mean.shape[0]

    def array(leaf: str, default: float) -> Array:
        tensor = tensors.get(f"{prefix}{leaf}")
        if tensor is None or tensor.shape != mean.shape:
            return np.full(channels, default)
        return to_numpy(tensor).astype(np.float64)

    kind = Norm(
        channels=channels,
        epsilon=None,
        momentum=None,
        mean=array("running_mean", np.nan),
        variance=array("running_var", np.nan),
        scale=array("weight", 1.0),
        shift=array("bias", 0.0),
        dtype=numpy_dtype(mean.dtype),
        obstacle=Obstacle("NO_GRAPH"),
    )
    node = Node(name, "batch_norm", kind, [Value(f"{prefix}input")], [Value(f"{prefix}output")])
    node.inputs[0].readers.append(node)
    node.outputs[0].producer = node
    return node


class _NoOracle:
    rounds = 1

    def shape(self, value: Value, round: int) -> Shape | None:
        return None

    def run(self, node: Node, arrays: Sequence[NDArray[Any]], round: int) -> list[NDArray[Any]]:
        raise NotImplementedError
