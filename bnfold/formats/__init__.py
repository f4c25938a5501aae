"""Model files at the edge: each format reads into the neutral graph and writes edits back.

What a format owes is written down as protocols; nothing else of bnfold looks further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from bnfold.data import Data, InputSpec, Sample, SampleOptions, first_rows
from bnfold.errors import MissingExtraError, ModelError, UsageError
from bnfold.files import missing
from bnfold.graph import Graph
from bnfold.planning import Plan
from bnfold.proof.subject import Fold, Reference
from bnfold.recalibration.new_statistics import NewStatistics
from bnfold.recalibration.observer import Observer, RuntimeOptions

Arrays = Mapping[str, NDArray[Any]]


class Model(Protocol):
    """A model as it was read. Data: it knows no writer and no runtime, and is never changed."""

    path: Path
    format: str
    notes: list[str]

    @property
    def file(self) -> Path:
        """The file that holds the weights; ``path`` where the model was made without one."""

    @property
    def files(self) -> Sequence[Path]:
        """All files that it was read from, `file` first; none where it was made without one."""

    @property
    def sha256(self) -> str:
        """Of the bytes that were read."""

    def check_unchanged(self) -> None:
        """Compares its files with what they were when they were read.

        Raises:
            ModelError: where one was replaced or written to meanwhile.
        """

    @property
    def graph(self) -> Graph: ...
    @property
    def node_count(self) -> int: ...
    @property
    def inputs(self) -> Sequence[InputSpec]: ...


class Edited(Protocol):
    """An edited copy.

    ``plan`` is what could be carried out of the plan that was asked for; ``key_map``: which names
    of a state dict changed, None where there is none.
    """

    plan: Plan

    @property
    def node_count(self) -> int: ...
    @property
    def batch_norm_count(self) -> int: ...
    @property
    def key_map(self) -> dict[str, list[str]] | None: ...

    def write(self, path: Path) -> list[Path]:
        """Writes the copy into files at and beside ``path``; the one to open comes last."""


class Format(Protocol):
    """What a format can do with the models that it opens; `format_of` finds the one of a model."""

    def generated_inputs(self, model: Any) -> Sequence[Arrays]:
        """Inputs made from the signature, on which the model was seen to run.

        Raises:
            DataError: where an input has a type that cannot be made up.
            RuntimeUnavailableError: where no runtime executes the model.
        """

    def edit(
        self,
        model: Any,
        plan: Plan,
        *,
        keep_modules: bool = False,
        provenance: Mapping[str, str] | None = None,
    ) -> Edited:
        """A copy with the edits of ``plan`` carried out; nothing is written yet.

        ``keep_modules``: it will be written as a state dict for the unchanged class.
        ``provenance``: what the file is to say of where it comes from, where it has a place for it.

        Raises:
            UsageError: where the format has no such thing.
        """

    def with_statistics(
        self,
        model: Any,
        edits: Sequence[NewStatistics],
        provenance: Mapping[str, str] | None = None,
    ) -> Edited:
        """A copy with new statistics; nothing is written yet. ``provenance``: see `edit`."""

    def reopened(self, edited: Any, written: Path) -> Model:
        """What ``edited`` wrote to ``written``, read back from its file."""

    def observer(self, model: Any, scratch: Path, options: RuntimeOptions) -> Observer:
        """What cuts runnable pieces out of a model; ``scratch`` is a folder for them.

        Raises:
            UsageError: where it has no runtime, or that cannot run so.
        """

    def runs(self, model: Any, options: RuntimeOptions | None = None) -> Reference:
        """A model as it runs, for comparing it with another of the same signature.

        Raises:
            UsageError: where it holds no program, or cannot run so.
        """

    def fold(self, edited: Any, written: Path) -> Fold:
        """The original of ``edited`` beside the written file, which is read back here.

        Raises:
            ModelError: where the written file cannot be read.
        """


def format_of(model: Model) -> Format:
    """What can be done with an opened model."""
    if model.format == "onnx":
        from bnfold.formats.onnx.format import FORMAT as onnx_format

        return onnx_format
    from bnfold.formats.torch.format import FORMAT as torch_format

    return torch_format


def open_model(
    source: str | Path,
    *,
    freeze_initializers: bool = False,
    weights: Path | None = None,
    weights_key: str | None = None,
    inputs: Sequence[str] = (),
    given: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None,
    data: Data | None = None,
    sampling: SampleOptions | None = None,
    dynamic: Any = None,
    allow_pickle: bool = False,
) -> Model:
    """Opens a model, told apart by content, or builds one from a factory.

    Args:
        source: a file, or ``package.module:factory``, or ``file.py:factory``.
        freeze_initializers: take ONNX initializers that are also graph inputs for constants.
        weights: a checkpoint for the module of a factory.
        weights_key: which network of a checkpoint, where it holds several.
        inputs: example inputs for a module that has to be traced, as ``1x3x224x224:float32``.
        given: example inputs themselves, by position and by name.
        data: a sample whose first rows are such inputs where ``inputs`` names none.
        sampling: how to read images of it.
        dynamic: which axes of these inputs are free where the batch alone is not enough: ``auto``,
            or what torch.export takes as ``dynamic_shapes``.
        allow_pickle: load files that hold Python objects, which runs code from them.

    Raises:
        ModelError: where it is missing, damaged or of an unknown kind.
        MissingExtraError: where it needs torch, and torch is not installed.
        UsageError: where the options do not fit the model.
        DataError: where ``data`` is needed and cannot be read.
    """
    check_code(str(source))
    if is_onnx(source):
        if weights or weights_key or inputs or given or dynamic or allow_pickle:
            raise UsageError(
                f"{source} is an ONNX model; --weights, --weights-key, --input, --dynamic and "
                "--allow-pickle are for PyTorch"
            )
        from bnfold.formats.onnx import OnnxModel

        return OnnxModel(Path(source), freeze_initializers=freeze_initializers)
    if find_spec("torch") is None:
        raise MissingExtraError(f"{source} is a PyTorch model, which", "torch")
    from bnfold.formats.torch import open_torch

    return open_torch(
        source,
        weights=weights,
        weights_key=weights_key,
        inputs=inputs,
        examples=examples_in(data, sampling),
        given=given,
        dynamic=dynamic,
        allow_pickle=allow_pickle,
    )


def examples_in(
    data: Data | None, sampling: SampleOptions | None = None
) -> Callable[[Sequence[InputSpec]], Sample] | None:
    """What gives a tracer the first samples of ``data``."""
    return None if data is None else partial(first_rows, data, options=sampling)


def is_onnx(source: str | Path) -> bool:
    """Whether ``source`` names an ONNX file.

    Raises:
        ModelError: where it names a file that is missing or of an unknown kind.
    """
    from bnfold.formats.detect import Content, content_of

    return not _is_factory(str(source)) and content_of(Path(source)) is Content.ONNX


def check_code(source: str) -> None:
    """Refuses ``file.py:factory`` where there is no such file, before anything is imported.

    Raises:
        ModelError: with what may have been meant.
    """
    where, colon, _ = source.rpartition(":")
    if colon and where.endswith(".py") and not Path(where).is_file():
        raise ModelError(missing(Path(where), "check the path before the colon"))


def _is_factory(source: str) -> bool:
    """``module:callable``, where no file of that name exists."""
    head, _, name = source.rpartition(":")
    return bool(head) and name.isidentifier() and not Path(source).exists()
