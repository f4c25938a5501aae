"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnfold.cli.streams import print_report
from bnfold.errors import OutputError, UsageError

if TYPE_CHECKING:
    from bnfold.data import SampleOptions
    from bnfold.recalibration.observer import RuntimeOptions

SAMPLE_PANEL, _IMAGES, TORCH_PANEL, _RUNTIME = "Data sample", "Images", "PyTorch models", "Runtime"
DATA_KINDS = (
    "arrays (.npy, .npz, .safetensors, .pt), tables (.csv, .parquet), images, a folder or glob of "
    "these, or file.py:callable"
)


class Format(str, Enum):
    """How a report is printed."""

    TEXT = "text"
    JSON = "json"


class RestForm(str, Enum):
    """What a BatchNorm is written as that has to stay: `bnfold.planning.Rest`, loaded early."""

    KEEP = "keep"
    AFFINE = "affine"
    DEPTHWISE = "depthwise"


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model file, or package.module:factory or file.py:factory for a PyTorch module.",
        show_default=False,
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="How the report on stdout is printed.")
]
ReportOption = Annotated[
    Path | None,
    typer.Option("--report", metavar="PAGE.html", help="Also write a page with charts."),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show every layer.")]
ReparameterizeOption = Annotated[
    bool,
    typer.Option("--reparameterize", help="Merge parallel linear branches (RepVGG) into one."),
]
RestOption = Annotated[
    RestForm,
    typer.Option(
        "--rest",
        help="Write a BatchNorm that has to stay as it is, as a product and a sum (affine), or as a "
        "depthwise 1x1 convolution, for backends that refuse BatchNormalization.",
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Allow -o to name MODEL itself (or its --weights).")
]
InputData = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help=f"Inputs to compare on: {DATA_KINDS}.",
        show_default="made from the input signature",
    ),
]


@dataclass(frozen=True)
class SampleFlags:
    """Which rows of ``--data`` are taken, and how images become tensors."""

    samples: Annotated[
        int | None,
        typer.Option(
            help="How many samples of --data to take.",
            min=1,
            rich_help_panel=SAMPLE_PANEL,
            show_default="2048 to recalibrate, 512 to inspect, 64 to compare",
        ),
    ] = None
    shuffle: Annotated[
        bool,
        typer.Option(
            "--shuffle",
            help="Draw samples at random, not evenly spread.",
            rich_help_panel=SAMPLE_PANEL,
        ),
    ] = False
    seed: Annotated[
        int, typer.Option(help="Seed for --shuffle.", min=0, rich_help_panel=SAMPLE_PANEL)
    ] = 0
    image_size: Annotated[
        str | None,
        typer.Option(help="HEIGHTxWIDTH.", rich_help_panel=_IMAGES, show_default="the model's"),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(help="Subtracted from colours in [0, 1]: R,G,B.", rich_help_panel=_IMAGES),
    ] = None
    std: Annotated[
        str | None, typer.Option(help="Divides colours, R,G,B.", rich_help_panel=_IMAGES)
    ] = None
    layout: Annotated[
        str | None,
        typer.Option(help="NCHW or NHWC.", rich_help_panel=_IMAGES, show_default="the model's"),
    ] = None
    color: Annotated[
        str | None,
        typer.Option(help="rgb, bgr or gray.", rich_help_panel=_IMAGES, show_default="the model's"),
    ] = None

    no_size_limit: Annotated[
        bool,
        typer.Option(
            "--no-size-limit",
            help="Read archives and images that unpack to far more than they hold.",
            rich_help_panel=SAMPLE_PANEL,
        ),
    ] = False

    def options(self, default: int) -> SampleOptions:
        """What the data layer wants, ``default`` samples where none are asked for.

        Raises:
            UsageError: where one of them makes no sense.
        """
        from bnfold.data import SampleOptions

        return SampleOptions(
            samples=self.samples or default,
            shuffle=self.shuffle,
            seed=self.seed,
            image_size=_size(self.image_size),
            mean=_numbers(self.mean, "--mean"),
            std=_numbers(self.std, "--std"),
            layout=self.layout,
            color=self.color,
            size_limit=not self.no_size_limit,
        )


@dataclass(frozen=True)
class RuntimeFlags:
    """How a model runs over data."""

    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of the runtime.",
            min=1,
            show_default="its choice",
            rich_help_panel=_RUNTIME,
        ),
    ] = None
    provider: Annotated[
        str,
        typer.Option(
            help="onnxruntime's execution provider, for ONNX models.", rich_help_panel=_RUNTIME
        ),
    ] = "CPUExecutionProvider"
    device: Annotated[
        str,
        typer.Option(
            help="torch's device, for PyTorch models: cuda, cuda:1, …", rich_help_panel=_RUNTIME
        ),
    ] = "cpu"

    def options(self) -> RuntimeOptions:
        """What the observers want."""
        from bnfold.recalibration.observer import RuntimeOptions

        return RuntimeOptions(self.threads, self.provider, self.device)


@dataclass(frozen=True)
class OutputFlags:
    """How a result is shown."""

    format: FormatOption = Format.TEXT
    report: ReportOption = None
    verbose: VerboseOption = False

    def finish(self, result: Any) -> None:
        """Prints a result, writes its page, and exits with 1 where it is not ok."""
        from bnfold.reports import show

        output = getattr(result, "output", None)
        written = None if output is None else output.path
        write_page(result, self.report, written)
        print_report(lambda: show(result, self.format.value, verbose=self.verbose), written)
        if not result.ok:
            raise typer.Exit(1)


def write_page(result: Any, report: Path | None, written: str | None = None) -> None:
    """Writes the page of a result, where one is wanted; ``written`` is there already."""
    if report is None:
        return
    import shlex
    import sys
    from datetime import datetime, timezone

    from bnfold.reports import html

    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    origin = html.Origin(shlex.join(["bnfold", *sys.argv[1:]]), now)
    try:
        html.write_page(result, report, origin)
    except OutputError as error:
        if written is None:
            raise
        raise OutputError(f"the page: {error}; {written} was written") from None


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
