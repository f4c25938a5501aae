"""``bnfold verify``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnfold.cli.groups import grouped
from bnfold.cli.model_options import ModelFlags
from bnfold.cli.options import Format, FormatOption, InputData, OutputFlags, SampleFlags
from bnfold.errors import UsageError

if TYPE_CHECKING:
    from bnfold.proof.bounds import Bounds

_BOUND: Any = {"rich_help_panel": "Bounds of your own", "show_default": "the rounding floor"}


class Metric(str, Enum):
    """How far apart outputs may be, as `bnfold.proof.bounds` measures it."""

    MAX = "max"
    SQNR = "sqnr"
    COSINE = "cosine"
    CLASS = "class"


@dataclass(frozen=True)
class BoundFlags:
    """What outputs have to keep to, where rounding is no yardstick: int8 or fp16 candidates."""

    rtol: Annotated[
        float | None, typer.Option(help="Relative tolerance of every element.", **_BOUND)
    ] = None
    atol: Annotated[
        float | None, typer.Option(help="Absolute tolerance of every element.", **_BOUND)
    ] = None
    metric: Annotated[
        Metric | None,
        typer.Option(
            help="Largest error, signal to noise in dB, cosine similarity, or share of rows with "
            "the same class.",
            **_BOUND,
        ),
    ] = None
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[OUTPUT=]NUMBER",
            help="What --metric has to reach (max: at most); may be repeated.",
            **_BOUND,
        ),
    ] = None

    def bounds(self) -> Bounds | None:
        """What the comparison wants, None where nothing was asked for.

        Raises:
            UsageError: where they do not go together.
        """
        from bnfold.proof.bounds import Bounds

        if (self.metric is None) != (not self.threshold):
            raise UsageError(
                "--metric and --threshold go together, as --metric sqnr --threshold 40"
            )
        thresholds = dict(_threshold(text) for text in self.threshold or ())
        for option, number in (("--rtol", self.rtol), ("--atol", self.atol)):
            if number is not None and not 0 <= number < float("inf"):
                raise UsageError(f"{option} is a number from 0 upwards, not {number}")
        metric = None if self.metric is None else self.metric.value
        bounds = Bounds(self.rtol, self.atol, metric, thresholds)
        return bounds if bounds.is_given else None


def _threshold(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if value != value:
        raise UsageError(f"--threshold takes a number or OUTPUT=NUMBER, not {text}")
    return name, value


@grouped
def verify(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="The model to trust.")],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="The model to compare.")],
    sample: SampleFlags,
    bounds: BoundFlags,
    source: ModelFlags,
    data: InputData = None,
    candidate_weights: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint for CANDIDATE, where that is a factory.",
            rich_help_panel="PyTorch models",
        ),
    ] = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Compare two models on the same inputs, the reference's own rounding as the yardstick."""
    from bnfold.formats import is_onnx
    from bnfold.jobs import verify as job
    from bnfold.jobs.common import DEFAULT_SAMPLES

    wanted = bounds.bounds()  # before anything is opened
    sampling = sample.options(DEFAULT_SAMPLES)
    first, second = source, replace(source, weights=candidate_weights)
    # Example inputs are for the one that has to be traced.
    if is_onnx(candidate) and candidate_weights is None:
        second = ModelFlags()
    if is_onnx(reference) and source.weights is None:
        first = ModelFlags()
    opened = first.open(reference, data, sampling), second.open(candidate, data, sampling)
    OutputFlags(format).finish(job(*opened, data=data, sampling=sampling, bounds=wanted))
