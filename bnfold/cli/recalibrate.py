"""``bnfold recalibrate``."""

from __future__ import annotations

import re
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnfold.cli.options import (
    Format,
    FormatOption,
    FreezeOption,
    InputOption,
    ModelArgument,
    PickleOption,
    ReportOption,
    VerboseOption,
    WeightsOption,
    check_page,
    finish,
    open_argument,
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


_IMAGES = "Images"
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def recalibrate(
    model: ModelArgument,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="SOURCE",
            help="A sample of the deployed model's inputs: .npy, .npz, .safetensors, .pt, .csv, "
            ".parquet, images, a folder or glob of these, or file.py:callable.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)
    ],
    method: Annotated[
        Method,
        typer.Option(
            help="population: what the deployed network observes, exact. "
            "batch: averages over mini-batches (Ioffe & Szegedy, Algorithm 2)."
        ),
    ] = Method.POPULATION,
    prior: Annotated[
        float, typer.Option(help="How many samples the old statistics are worth.", min=0)
    ] = 0.0,
    only: Annotated[
        list[str] | None, typer.Option(help="Glob on BatchNorm names; may be repeated.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(help="Glob on BatchNorm names to keep; may be repeated.")
    ] = None,
    variance: Annotated[
        Variance | None,
        typer.Option(help="Which variance to store.", show_default="the format's own convention"),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(help="How many samples to take.", min=1, show_default="2048, or all"),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Samples per run; a fixed batch in the file overrules it.", min=1)
    ] = 32,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Draw samples at random, not evenly spread.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed for --shuffle.", min=0)] = 0,
    image_size: Annotated[
        str | None,
        typer.Option(help="HEIGHTxWIDTH.", rich_help_panel=_IMAGES, show_default="the model's"),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="Subtracted from colours in [0, 1]: R,G,B.", rich_help_panel=_IMAGES),
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Divides colours, R,G,B.", rich_help_panel=_IMAGES)
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="NCHW or NHWC.", rich_help_panel=_IMAGES, show_default="the model's"),
    ] = None,
    color: Annotated[
        str | None,
        typer.Option(help="rgb, bgr or gray.", rich_help_panel=_IMAGES, show_default="the model's"),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.PY:FUNCTION",
            help="Called with the path of the model before and after; returns a number, higher is "
            "better. Nothing is written where it falls.",
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
    provider: Annotated[
        str, typer.Option(help="onnxruntime's execution provider.")
    ] = "CPUExecutionProvider",
    threads: Annotated[
        int | None, typer.Option(help="Threads of the runtime.", min=1, show_default="its choice")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Allow -o to name MODEL itself.")] = False,
    weights: WeightsOption = None,
    inputs: InputOption = None,
    allow_pickle: PickleOption = False,
    freeze_initializers: FreezeOption = False,
    format: FormatOption = Format.TEXT,
    report: ReportOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Measure the BatchNorm statistics of MODEL again on a data sample and write them."""
    from bnfold.cli.progress import progress_bar
    from bnfold.data import SampleOptions
    from bnfold.jobs.recalibrate import recalibrate as job
    from bnfold.jobs.recalibration_result import DEFAULT_SAMPLES, RecalibrationOptions

    check_page(report)
    opened = open_argument(
        model,
        freeze_initializers=freeze_initializers,
        weights=weights,
        inputs=inputs,
        allow_pickle=allow_pickle,
    )
    sampling = SampleOptions(
        samples=samples or DEFAULT_SAMPLES,
        shuffle=shuffle,
        seed=seed,
        image_size=_size(image_size),
        mean=_numbers(mean, "--mean"),
        std=_numbers(std, "--std"),
        layout=layout,
        color=color,
    )
    options = RecalibrationOptions(
        method=method.value,
        prior=prior,
        only=tuple(only or ()),
        skip=tuple(skip or ()),
        variance=variance.value if variance else None,
        batch_size=batch_size,
        cache_memory=_bytes(cache_memory),
        max_drop=max_drop,
        provider=provider,
        threads=threads,
        force=force,
    )
    try:
        with progress_bar() as progress:
            result = job(
                opened,
                output,
                data,
                options=options,
                sampling=sampling,
                evaluate=_function(evaluate),
                progress=progress,
            )
    except KeyboardInterrupt:
        print("bnfold: interrupted; nothing was written", file=sys.stderr)
        raise typer.Exit(130) from None
    if result is not None:  # the first of several processes speaks for all
        import bnfold.reports.recalibration  # noqa: F401  registers the text report

        finish(result, format, verbose=verbose, report=report)


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


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if found is None or not int(found[1]) or (found[2] and not int(found[2])):
        raise UsageError(f"--image-size is HEIGHTxWIDTH such as 224x224, not {text}")
    return int(found[1]), int(found[2] or found[1])


def _numbers(text: str | None, option: str) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} takes numbers such as 0.485,0.456,0.406, not {text}") from None
