"""Model files at the edge: each format reads into the neutral graph and writes edits back.

What a format owes is written down as two protocols; nothing else of bnfold looks further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from bnfold.data import InputSpec
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


def open_model(path: Path, *, freeze_initializers: bool = False) -> Model:
    """Opens a model file, told apart by its content.

    Raises:
        ModelError: where it is missing, damaged or of an unknown kind.
        MissingExtraError: where it needs torch, and torch is not installed.
    """
    from bnfold.formats.detect import Content, content_of

    if content_of(path) is Content.TORCH:
        from bnfold.formats.torch import open_torch

        return open_torch(path)
    from bnfold.formats.onnx import OnnxModel

    return OnnxModel(path, freeze_initializers=freeze_initializers)
