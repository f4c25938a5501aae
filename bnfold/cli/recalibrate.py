"""``bnfold recalibrate``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnfold.cli.destinations import check_paths
from bnfold.cli.groups import grouped
from bnfold.cli.model_options import MaskFlags, ModelFlags
from bnfold.cli.options import (
    DATA_KINDS,
    ForceOption,
    ModelArgument,
    OutputFlags,
    RuntimeFlags,
    SampleFlags,
)
from bnfold.errors import UsageError

if TYPE_CHECKING:
    from bnfold.jobs.recalibrate import Evaluate
    from bnfold.jobs.recalibration_result import RecalibrationOptions


class Method(str, Enum):
    """How statistics are estimated."""

    POPULATION = "population"
    BATCH = "batch"


class Variance(str, Enum):
    """Which variance is stored."""

    BIASED = "biased"
    UNBIASED = "unbiased"


_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_METHOD = "Method"
Globs = list[str] | None


@dataclass(frozen=True)
class MethodFlags:
    """How statistics are measured, and of which layers."""

    method: Annotated[
        Method,
        typer.Option(
            help="population: what the deployed network observes, exact. "
            "batch: averages over mini-batches (Ioffe & Szegedy, Algorithm 2).",
            rich_help_panel=_METHOD,
        ),
    ] = Method.POPULATION
    prior: Annotated[
        float,
        typer.Option(
            help="How many samples the old statistics are worth.", min=0, rich_help_panel=_METHOD
        ),
    ] = 0.0
    only: Annotated[
        Globs,
        typer.Option(help="Glob on BatchNorm names; may be repeated.", rich_help_panel=_METHOD),
    ] = None
    skip: Annotated[
        Globs,
        typer.Option(
            help="Glob on BatchNorm names to keep; may be repeated.", rich_help_panel=_METHOD
        ),
    ] = None
    variance: Annotated[
        Variance | None,
        typer.Option(
            help="Which variance to store.",
            show_default="the format's own convention",
            rich_help_panel=_METHOD,
        ),
    ] = None
    batch_size: Annotated[
        int,
        typer.Option(
            help="Samples per run; a fixed batch in the file overrules it.",
            min=1,
            rich_help_panel=_METHOD,
        ),
    ] = 32
    cache_memory: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES",
            help="Memory for activations between levels (512M, 4G); then disk, then computed again.",
            show_default="a quarter of what is free",
            rich_help_panel=_METHOD,
        ),
    ] = None

    def options(self, **others: Any) -> RecalibrationOptions:
        """What the job wants; ``others`` are its options that are not here.

        Raises:
            UsageError: where ``cache_memory`` is no number of bytes.
        """
        from bnfold.jobs.recalibration_result import RecalibrationOptions

        return RecalibrationOptions(
            method=self.method.value,
            prior=self.prior,
            only=tuple(self.only or ()),
            skip=tuple(self.skip or ()),
            variance=self.variance.value if self.variance else None,
            batch_size=self.batch_size,
            cache_memory=_bytes(self.cache_memory),
            **others,
        )


@dataclass(frozen=True)
class EvaluationFlags:
    """The user's own measure of a model."""

    evaluate: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.PY:FUNCTION",
            help="Called with the path of the model (of --weights for a factory) and of what will "
            "be written; returns a number, higher is better. Nothing is written where it falls.",
            rich_help_panel="Evaluation",
        ),
    ] = None
    max_drop: Annotated[
        float,
        typer.Option(
            help="By how much the evaluation may fall.", min=0, rich_help_panel="Evaluation"
        ),
    ] = 0.0

    def function(self) -> Evaluate | None:
        """The function that ``evaluate`` names.

        Raises:
            UsageError: where there is none.
        """
        if self.evaluate is None:
            return None
        from bnfold.data.callables import load_callable

        found: Evaluate = load_callable(self.evaluate)
        return found


@grouped
def recalibrate(
    model: ModelArgument,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="SOURCE",
            help=f"A sample of the deployed model's inputs: {DATA_KINDS}.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)
    ],
    how: MethodFlags,
    score: EvaluationFlags,
    sample: SampleFlags,
    masks: MaskFlags,
    source: ModelFlags,
    runtime: RuntimeFlags,
    shown: OutputFlags,
    force: ForceOption = False,
) -> None:
    """Measure the BatchNorm statistics of MODEL again on a data sample and write them."""
    from bnfold.cli.progress import progress_bar
    from bnfold.jobs.recalibrate import recalibrate as job
    from bnfold.jobs.recalibration_result import DEFAULT_SAMPLES

    check_paths(shown.report, model, source, data=data, output=output, force=force)
    sampling = masks.on(sample.options(DEFAULT_SAMPLES))
    options = how.options(max_drop=score.max_drop, runtime=runtime.options(), force=force)
    evaluate = score.function()
    opened = source.open(model, data, sampling)
    with progress_bar() as progress:
        result = job(
            opened,
            output,
            data,
            options=options,
            sampling=sampling,
            evaluate=evaluate,
            progress=progress,
        )
    if result is not None:  # the first of several processes speaks for all
        shown.finish(result)


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise UsageError(f"--cache-memory is a number of bytes such as 512M or 4G, not {text}")
    return int(float(found[1]) * 2 ** _UNITS[found[2].upper()])
