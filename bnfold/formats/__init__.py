"""Model files at the edge: each format reads into the neutral graph and writes edits back.

What a format owes is written down as two protocols; nothing else of bnfold looks further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from bnfold.data import InputSpec
from bnfold.errors import MissingExtraError, UsageError
from bnfold.graph import Graph
from bnfold.planning import Plan
from bnfold.verification import Bench, LocalBench

Arrays = Mapping[str, NDArray[Any]]


class Model(Protocol):
    """A model as it was read. Never changed."""

    path: Path
    format: str
    notes: list[str]

    @property
    def sha256(self) -> str: ...
    @property
    def graph(self) -> Graph: ...
    @property
    def node_count(self) -> int: ...
    @property
    def inputs(self) -> Sequence[InputSpec]: ...

    def generated_inputs(self) -> Sequence[Arrays]:
        """Inputs made from the signature, on which the model was seen to run.

        Raises:
            DataError: where an input has a type that cannot be made up.
            RuntimeUnavailableError: where no runtime executes the model.
        """

    def edit(self, plan: Plan) -> Edited:
        """A copy with the edits of ``plan`` carried out; nothing is written yet."""

    def comparison(self, other: Model, scratch: Path) -> Bench:
        """This model beside another of the same signature."""


class Edited(Protocol):
    """An edited copy."""

    @property
    def node_count(self) -> int: ...
    @property
    def batch_norm_count(self) -> int: ...

    def write(self, path: Path) -> list[Path]:
        """Writes the copy into files at and beside ``path``; the one to open comes last."""

    def bench(self, written: Path, scratch: Path) -> Bench:
        """The original beside the written copy."""

    def local_bench(self, feeds: Arrays, scratch: Path) -> LocalBench | None:
        """The pieces that the plan changed, None where they cannot be observed."""


def open_model(
    source: str | Path,
    *,
    freeze_initializers: bool = False,
    weights: Path | None = None,
    inputs: Sequence[str] = (),
    allow_pickle: bool = False,
) -> Model:
    """Opens a model, told apart by content, or builds one from a factory.

    Args:
        source: a file, or ``package.module:factory``, or ``file.py:factory``.
        freeze_initializers: take ONNX initializers that are also graph inputs for constants.
        weights: a checkpoint for the module of a factory.
        inputs: example inputs for a module that has to be traced, as ``1x3x224x224:float32``.
        allow_pickle: load files that hold Python objects, which runs code from them.

    Raises:
        ModelError: where it is missing, damaged or of an unknown kind.
        MissingExtraError: where it needs torch, and torch is not installed.
        UsageError: where the options do not fit the model.
    """
    from bnfold.formats.detect import Content, content_of

    if not _is_factory(str(source)) and content_of(Path(source)) is Content.ONNX:
        if weights or inputs or allow_pickle:
            raise UsageError(
                f"{source} is an ONNX model; --weights, --input and --allow-pickle are for PyTorch"
            )
        from bnfold.formats.onnx import OnnxModel

        return OnnxModel(Path(source), freeze_initializers=freeze_initializers)
    if find_spec("torch") is None:
        raise MissingExtraError(f"{source} is a PyTorch model, which", "torch")
    from bnfold.formats.torch import open_torch

    return open_torch(source, weights=weights, inputs=inputs, allow_pickle=allow_pickle)


def _is_factory(source: str) -> bool:
    """``module:callable``, where no file of that name exists."""
    head, _, name = source.rpartition(":")
    return bool(head) and name.isidentifier() and not Path(source).exists()
