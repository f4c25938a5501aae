"""What the jobs share: describing a model, choosing inputs, which paths may be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bnfold.data import Data, SampleOptions, open_sample, sample_files
from bnfold.files import Use, check_destination, older_data, same_file
from bnfold.formats import Model, format_of
from bnfold.planning import Plan
from bnfold.recalibration.batches import Batches

FORMAT_VERSION = "2.2"
DEFAULT_SAMPLES, _BATCH, _FEW = 64, 16, 2

Arrays = Mapping[str, NDArray[Any]]

UNDECIDED = (
    "the proof decides nothing: nothing that was compared could have shown a difference; give "
    "inputs like those of the deployed model with --data"
)

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

    ``path`` is what the user named, ``weights`` the checkpoint where that was a factory. ``size`` is
    that of its files in bytes, None where it has none.
    """

    path: str
    format: str
    sha256: str
    weights: str | None = None
    size: int | None = None

    @classmethod
    def of(cls, model: Model) -> ModelInfo:
        weights = None if model.file == model.path else str(model.file)
        sizes = [file.stat().st_size for file in model.files if file.exists()]
        return cls(str(model.path), model.format, model.sha256, weights, sum(sizes) or None)

    @property
    def label(self) -> str:
        """How a report names it."""
        return self.path if self.weights is None else f"{self.path} with {self.weights}"

    def to_json(self) -> dict[str, str | None]:
        """As reports have it."""
        return {
            "path": self.path,
            "format": self.format,
            "sha256": self.sha256,
            "weights": self.weights,
        }


def notes_of(plan: Plan, format: str) -> tuple[str, ...]:
    """What a user should know beside the decisions."""
    if plan.batch_norms or plan.frozen:
        return plan.notes
    return (*plan.notes, _WITHOUT_BATCH_NORM[format])


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
    feeds: list[Arrays] = [batches[index].feeds for index in range(len(batches))]
    if batches.fixed is None and sample.count > _FEW:
        feeds.insert(0, sample.read(0, _FEW))  # for what is compared piece by piece
    left_out = ", ".join(sample.source.left_out)
    taken = f"{data}, {sample.count} samples" + (f" ({left_out} left out)" if left_out else "")
    return feeds, "; ".join((taken, *(n for n in sample.notes if n.startswith("warning:"))))


def check_target(target: Path, model: Model, data: Data | None = None, *, force: bool) -> None:
    """Refuses a destination that cannot or must not be written.

    Raises:
        OutputError: with the reason and what to do.
    """
    check_destination(target, "-o", uses_of(model, data, target), force=force)


def uses_of(model: Model, data: Data | None, target: Path) -> list[Use]:
    """What a command reads, as far as ``target`` could be one of it."""
    itself, *others = model.files or (model.file,)
    uses = [Use(itself, "the input itself", replaceable=True)]
    uses += [Use(path, f"part of the input {model.path}") for path in others]
    if data is not None and target.exists():
        uses += [Use(path, f"part of the data {data}") for path in sample_files(data)]
    return uses


def check_unchanged(model: Model) -> ModelInfo:
    """What the reports say of a model, whose files are still those that were read.

    To be asked before anything is published: the model's own file may be replaced by that.

    Raises:
        ModelError: where one was replaced or written to meanwhile.
    """
    info = ModelInfo.of(model)
    model.check_unchanged()
    return info


def left_behind(model: Model, target: Path, files: Sequence[Path]) -> tuple[str, ...]:
    """Data files of the model that ``files`` will replace at ``target``.

    They are never removed: a copy of that model may lie beside it and read them too.
    """
    own = [path for path in model.files[1:] if same_file(model.files[0], target)]
    new = {file.name for file in files}
    return tuple(str(p) for p in (*own, *older_data(target)) if p.name not in new)
