"""What the jobs share: describing a model, choosing inputs, writing in one step or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bnfold.data import Data, SampleOptions, open_sample
from bnfold.errors import OutputError
from bnfold.formats import Model, format_of
from bnfold.planning import Plan
from bnfold.recalibration.batches import Batches

FORMAT_VERSION = "1.0"
DEFAULT_SAMPLES, _BATCH = 64, 16

Arrays = Mapping[str, NDArray[Any]]

_WITHOUT_BATCH_NORM = {
    "onnx": "the model holds no BatchNorm. Most likely the exporter folded it: both torch exporters do so in "
    "eval mode. To export with BatchNorm: torch.onnx.export(..., dynamo=True, optimize=False), or "
    "torch.onnx.export(..., dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, "
    "do_constant_folding=False)",
    "torch": "inference calls no BatchNorm with running statistics in this model",
    "torch-checkpoint": "the file holds no running mean and variance",
}


@dataclass(frozen=True)
class ModelInfo:
    """Which model a result speaks of.

    ``path`` is what the user named, ``weights`` the checkpoint where that was a factory.
    """

    path: str
    format: str
    sha256: str
    weights: str | None = None

    @classmethod
    def of(cls, model: Model) -> ModelInfo:
        weights = None if model.file == model.path else str(model.file)
        return cls(str(model.path), model.format, model.sha256, weights)

    @property
    def label(self) -> str:
        """How a report names it."""
        return self.path if self.weights is None else f"{self.path} with {self.weights}"

    def to_json(self) -> dict[str, str | None]:
        return {
            "path": self.path,
            "format": self.format,
            "sha256": self.sha256,
            "weights": self.weights,
        }


def notes_of(plan: Plan, format: str) -> tuple[str, ...]:
    """What a user should know beside the decisions."""
    return plan.notes if plan.batch_norms else (*plan.notes, _WITHOUT_BATCH_NORM[format])


def comparison_inputs(
    model: Model, data: Data | None, sampling: SampleOptions | None = None
) -> tuple[Sequence[Arrays], str]:
    """A few sets of inputs, and where they come from in words.

    Args:
        model: an opened model.
        data: a sample; None makes inputs from the signature.
        sampling: which rows of it to take; 64 at most by default.

    Raises:
        DataError: where the data does not fit, or none can be made up.
        RuntimeUnavailableError: where no runtime executes the model.
    """
    if data is None:
        return format_of(model).generated_inputs(model), "generated from the input signature"
    sample = open_sample(data, model.inputs, sampling or SampleOptions(samples=DEFAULT_SAMPLES))
    batches = Batches(sample, _BATCH)
    feeds = [batches[index].feeds for index in range(len(batches))]
    left_out = ", ".join(sample.source.left_out)
    return feeds, f"{data}, {sample.count} samples" + (
        f" ({left_out} left out)" if left_out else ""
    )


def check_target(target: Path, source: Path, *, force: bool) -> None:
    """Refuses a destination that cannot or must not be written.

    Raises:
        OutputError: with the reason and what to do.
    """
    if target.is_dir():
        raise OutputError(f"{target} is a folder; name a file with -o")
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} does not exist; create it first")
    if target.exists() and source.exists() and target.samefile(source) and not force:
        raise OutputError(f"{target} is the input itself; add --force to overwrite it")
    # A file is written beside it and renamed, which would put an end to what it is now.
    if target.is_symlink():
        raise OutputError(f"{target} is a link; name the file that it points to with -o")
    if target.exists() and not target.is_file():
        raise OutputError(f"{target} is no ordinary file (a device or a pipe); name a file with -o")
    if target.exists() and not os.access(target, os.W_OK):
        raise OutputError(f"{target} is not writable; choose another file with -o")
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"the folder {target.parent} is not writable; choose another with -o")


@contextmanager
def scratch_folder(target: Path | None = None) -> Iterator[Path]:
    """A folder beside ``target`` (on the same file system), gone afterwards whatever happens.

    Raises:
        OutputError: where it cannot be made.
    """
    try:
        folder = Path(
            tempfile.mkdtemp(prefix=".bnfold-", dir=None if target is None else target.parent)
        )
    except OSError as error:
        raise OutputError(f"no temporary folder can be made: {error}") from None
    try:
        yield folder
    except OSError as error:
        raise OutputError(f"writing failed: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(files: Sequence[Path], target: Path) -> None:
    """Moves finished files beside ``target``; the one to open, which comes last, becomes it."""
    for file in files[:-1]:
        os.replace(file, target.parent / file.name)
    os.replace(files[-1], target)
