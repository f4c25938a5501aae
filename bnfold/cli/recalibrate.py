"""``bnfold recalibrate``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnfold.cli.groups import grouped
from bnfold.cli.options import (
    DATA_KINDS,
    ForceOption,
    ModelArgument,
    ModelFlags,
    OutputFlags,
    RuntimeFlags,
    SampleFlags,
    check_page,
)
from bnfold.errors import UsageError

if TYPE_CHECKING:
    from bnfold.jobs.recalibrate import Evaluate


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
    sample: SampleFlags,
    source: ModelFlags,
    runtime: RuntimeFlags,
    shown: OutputFlags,
    evaluate: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.PY:FUNCTION",
            help="Called with the path of the model (of --weights for a factory) and of what will "
            "be written; returns a number, higher is better. Nothing is written where it falls.",
        ),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="By how much the evaluation may fall.", min=0)
    ] = 0.0,
    cache_memory: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES",
            help="Memory for activations between levels (512M, 4G); then disk, then computed again.",
            show_default="a quarter of what is free",
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Measure the BatchNorm statistics of MODEL again on a data sample and write them."""
    from bnfold.cli.progress import progress_bar
    from bnfold.jobs.recalibrate import recalibrate as job
    from bnfold.jobs.recalibration_result import DEFAULT_SAMPLES, RecalibrationOptions

    check_page(shown.report)
    sampling = sample.options(DEFAULT_SAMPLES)
    options = RecalibrationOptions(
        method=how.method.value,
        prior=how.prior,
        only=tuple(how.only or ()),
        skip=tuple(how.skip or ()),
        variance=how.variance.value if how.variance else None,
        batch_size=how.batch_size,
        cache_memory=_bytes(cache_memory),
        max_drop=max_drop,
        runtime=runtime.options(),
        force=force,
    )
    measure = _function(evaluate)
    opened = source.open(model, data, sampling)
    with progress_bar() as progress:
        result = job(
            opened,
            output,
            data,
            options=options,
            sampling=sampling,
            evaluate=measure,
            progress=progress,
        )
    if result is not None:  # the first of several processes speaks for all
        shown.finish(result)


def _function(name: str | None) -> Evaluate | None:
    if name is None:
        return None
    from bnfold.data.callables import load_callable

    function: Evaluate = load_callable(name)
    return function


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise UsageError(f"--cache-memory is a number of bytes such as 512M or 4G, not {text}")
    return int(float(found[1]) * 2 ** _UNITS[found[2].upper()])
