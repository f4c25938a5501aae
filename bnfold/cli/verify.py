"""``bnfold verify``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bnfold.cli.applies import (
    check_data_options,
    check_images,
    check_model_options,
    check_runtime,
)
from bnfold.cli.destinations import check_paths
from bnfold.cli.model_options import ModelFlags, check_weights
from bnfold.cli.models import STDIN, on_model
from bnfold.cli.options import TORCH_PANEL, InputData, OutputFlags, RuntimeFlags, SampleFlags
from bnfold.cli.parsing import Argument, Option
from bnfold.cli.reporting import Report, write_page
from bnfold.errors import UsageError

if TYPE_CHECKING:
    from bnfold.jobs import VerifyResult
    from bnfold.proof.bounds import Bounds

_BOUND: Any = {"panel": "Bounds of your own", "default": "the rounding floor"}


class Metric(str, Enum):
    """How far apart outputs may be, as `bnfold.proof.bounds` measures it."""

    MAX = "max"
    SQNR = "sqnr"
    COSINE = "cosine"
    CLASS = "class"


@dataclass(frozen=True)
class BoundFlags:
    """What outputs have to keep to, where rounding is no yardstick: int8 or fp16 candidates."""

    rtol: Annotated[float | None, Option(help="Relative tolerance of every element.", **_BOUND)] = (
        None
    )
    atol: Annotated[float | None, Option(help="Absolute tolerance of every element.", **_BOUND)] = (
        None
    )
    metric: Annotated[
        Metric | None,
        Option(
            help="Largest error, signal to noise in dB, cosine similarity, or share of rows with "
            "the same class.",
            **_BOUND,
        ),
    ] = None
    threshold: Annotated[
        list[str] | None,
        Option(
            metavar="[OUTPUT=]NUMBER",
            help="What --metric has to reach (max: at most).",
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


def verify(
    reference: Annotated[str, Argument("REFERENCE", "The model to trust (- reads it from stdin).")],
    candidate: Annotated[str, Argument("CANDIDATE", "The model to compare (or -).")],
    *,
    data: InputData = None,
    shown: OutputFlags,
    bounds: BoundFlags,
    sample: SampleFlags,
    source: ModelFlags,
    runtime: RuntimeFlags,
    candidate_weights: Annotated[
        Path | None,
        Option(help="A checkpoint for CANDIDATE, where that is a factory.", panel=TORCH_PANEL),
    ] = None,
) -> int:
    """Compare two models on the same inputs, the reference's own rounding as the yardstick."""
    from bnfold.jobs.common import DEFAULT_SAMPLES

    check_data_options(data, sample)
    wanted = bounds.bounds()  # before anything is opened
    sampling = sample.options(DEFAULT_SAMPLES)
    check_paths(shown.report, [reference, candidate], source, data=data)
    check_weights(candidate_weights, "--candidate-weights")
    check_images(data, sampling)
    if reference == candidate == STDIN:
        raise UsageError("- reads one model from stdin; name a file for the other")
    report = Report("verify", shown.format.value, verbose=shown.verbose, quiet=shown.quiet)

    def work(first: str, second: str) -> VerifyResult:
        from bnfold.cli.progress import progress_bar
        from bnfold.jobs import verify as job
        from bnfold.jobs.parts import verify_parts

        sources = _sources(first, second, source, candidate_weights)
        check_runtime([first, second], runtime)
        with progress_bar(quiet=shown.quiet) as progress:
            opened = []
            for flags, name in zip(sources, (first, second), strict=True):
                flags.tell_opening(progress, name)
                opening = flags.open_parts if source.submodule else flags.open
                opened.append(opening(name, data, sampling))
            return (verify_parts if source.submodule else job)(
                *opened,
                data=data,
                sampling=sampling,
                bounds=wanted,
                runtime=runtime.options(),
                progress=progress,
            )

    if candidate == STDIN:
        result = on_model(candidate, lambda name: work(reference, name))
    else:
        result = on_model(reference, lambda name: work(name, candidate))
    write_page(result, shown.report)
    report.add(result, int(not result.ok), None if shown.report is None else str(shown.report))
    return report.close()


def _sources(
    reference: str, candidate: str, source: ModelFlags, candidate_weights: Path | None
) -> tuple[ModelFlags, ModelFlags]:
    """How each is opened: options for PyTorch are for the one that is a PyTorch model.

    Raises:
        UsageError: where neither is one, or an option is for the wrong one.
    """
    from bnfold.formats import is_onnx

    onnx = is_onnx(reference), is_onnx(candidate)
    if all(onnx):
        check_model_options(reference, source)
    if candidate_weights is not None and onnx[1]:
        raise UsageError(f"--candidate-weights is for PyTorch, and {candidate} is an ONNX model")
    if source.weights is not None and onnx[0]:
        raise UsageError(f"--weights is for REFERENCE, and {reference} is an ONNX model")
    plain = ModelFlags(freeze_initializers=source.freeze_initializers)
    torch = replace(source, freeze_initializers=False)
    theirs = replace(torch, weights=candidate_weights)
    return (plain if onnx[0] else torch), (plain if onnx[1] else theirs)
