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
from bnfold.constants import Obstacle, Shape
from bnfold.data import InputSpec
from bnfold.files import SourceFile
from bnfold.formats.torch.file.state import without_prefixes
from bnfold.formats.torch.file.tensors import has_numpy_dtype, numpy_dtype, to_numpy
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Norm

_MEAN = "running_mean"


class TorchCheckpoint:
    """A checkpoint without the code of its network. It can be inspected, not folded."""

    format = "torch-checkpoint"

    def __init__(
        self, tensors: Mapping[str, torch.Tensor], file: SourceFile, left_out: Sequence[str] = ()
    ) -> None:
        """Takes a state dict over.

        Args:
            tensors: by name.
            file: where they were read from.
            left_out: under which names the file holds further networks.
        """
        self._file, self.path = file, file.path
        self.tensors = {short: tensors[name] for name, short in without_prefixes(tensors).items()}
        self.notes = [
            "a checkpoint holds no graph: epsilon, momentum and the layers around each BatchNorm "
            "are unknown; name a factory with --weights to fold"
        ]
        if left_out:
            self.notes.append(
                f"the file holds further networks, which are not shown: {', '.join(left_out)}; "
                "--weights-key names one of them"
            )
        self._prefixes = norm_names(self.tensors)
        odd = [p for p in self._prefixes if not _is_readable(p, self.tensors)]
        if odd:
            self.notes.append(
                f"{len(odd)} BatchNorm hold no numbers that can be read ({odd[0].removesuffix('.')}"
                f"{', …' if len(odd) > 1 else ''})"
            )

    @cached_property
    def graph(self) -> Graph:
        """Norms only, each by itself."""
        nodes = [_norm(p, self.tensors) for p in self._prefixes if _is_readable(p, self.tensors)]
        return Graph(nodes, _NoOracle(), list(self.notes))

    @cached_property
    def sha256(self) -> str:
        return self._file.sha256()

    @property
    def node_count(self) -> int:
        return 0

    @property
    def batch_norm_count(self) -> int:
        return len(self.graph.nodes)

    @property
    def inputs(self) -> Sequence[InputSpec]:
        return ()

    @property
    def file(self) -> Path:
        return self.path

    @property
    def files(self) -> list[Path]:
        return [self.path]

    def check_unchanged(self) -> None:
        self._file.check()


def norm_names(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The prefixes under which a running mean and a running variance of the same shape stand."""
    prefixes = (
        name[: -len(_MEAN)] for name in tensors if name == _MEAN or name.endswith(f".{_MEAN}")
    )
    found = []
    for prefix in prefixes:
        mean, variance = tensors[f"{prefix}{_MEAN}"], tensors.get(f"{prefix}running_var")
        if variance is not None and mean.ndim == 1 and mean.shape == variance.shape:
            found.append(prefix)
    return found


def _is_readable(prefix: str, tensors: Mapping[str, torch.Tensor]) -> bool:
    own = (tensors.get(f"{prefix}{leaf}") for leaf in (_MEAN, "running_var", "weight", "bias"))
    return all(tensor is None or _array(tensor) is not None for tensor in own)


def _array(tensor: torch.Tensor) -> Array | None:
    """The elements as float64, however they are stored; None where there are none, or complex."""
    if tensor.is_meta or tensor.is_complex():
        return None
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    elif tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    return to_numpy(tensor.to(torch.float64))


def _norm(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Node:
    mean = tensors[f"{prefix}{_MEAN}"]
    channels = mean.shape[0]

    def array(leaf: str, default: float) -> Array:
        tensor = tensors.get(f"{prefix}{leaf}")
        found = None if tensor is None or tensor.shape != mean.shape else _array(tensor)
        return np.full(channels, default) if found is None else found

    kind = Norm(
        channels=channels,
        epsilon=None,
        momentum=None,
        mean=array(_MEAN, np.nan),
        variance=array("running_var", np.nan),
        scale=array("weight", 1.0),
        shift=array("bias", 0.0),
        dtype=numpy_dtype(mean.dtype) if has_numpy_dtype(mean.dtype) else np.dtype("float32"),
        obstacle=Obstacle("NO_GRAPH"),
    )
    inputs, outputs = [Value(f"{prefix}input")], [Value(f"{prefix}output")]
    node = Node(prefix.removesuffix("."), "batch_norm", kind, inputs, outputs)
    node.inputs[0].readers.append(node)
    node.outputs[0].producer = node
    return node


class _NoOracle:
    rounds = 1

    def shape(self, value: Value, round: int) -> Shape | None:
        return None

    def run(self, node: Node, arrays: Sequence[NDArray[Any]], round: int) -> list[NDArray[Any]]:
        raise NotImplementedError
