"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bnfold.cli.parsing import Argument, Option
from bnfold.errors import UsageError

if TYPE_CHECKING:
    from bnfold.data import SampleOptions
    from bnfold.recalibration.observer import RuntimeOptions

SAMPLE_PANEL, _IMAGES, TORCH_PANEL, _RUNTIME = "Data sample", "Images", "PyTorch models", "Runtime"
_ITS_OWN = "the model's"
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
    Argument(
        "MODEL",
        "A model file (- reads it from stdin), or package.module:factory or file.py:factory for a "
        "PyTorch module.",
    ),
]
ModelArguments = Annotated[
    list[str],
    Argument(
        "MODEL",
        "Model files or globs of them (- reads one from stdin), or package.module:factory or "
        "file.py:factory for a PyTorch module.",
    ),
]
FormatOption = Annotated[
    Format, Option("--format", "-f", help="How the report on stdout is printed.")
]
ReportOption = Annotated[
    Path | None,
    Option("--report", metavar="PAGE.html", help="Also write a page with charts."),
]
VerboseOption = Annotated[bool, Option("--verbose", "-v", help="Show every layer.")]
QuietOption = Annotated[
    bool,
    Option(
        "--quiet", "-q", help="No progress, and no text where the exit code is 0: errors alone."
    ),
]
ReparameterizeOption = Annotated[
    bool,
    Option("--reparameterize", help="Merge parallel linear branches (RepVGG) into one."),
]
SubmoduleOption = Annotated[
    list[str] | None,
    Option(
        metavar="NAME",
        help="Only this submodule (backbone.body), where the whole cannot be traced, say.",
        panel=TORCH_PANEL,
    ),
]
RestOption = Annotated[
    RestForm,
    Option(
        "--rest",
        help="Write a BatchNorm that has to stay as it is, as a product and a sum (affine), or as a "
        "depthwise 1x1 convolution, for backends that refuse BatchNormalization.",
    ),
]
ForceOption = Annotated[
    bool, Option("--force", help="Allow -o to name MODEL itself (or its --weights).")
]
OnlyOption = Annotated[
    list[str] | None,
    Option("--only", metavar="GLOB", help="Change only the BatchNorm whose names match."),
]
SkipOption = Annotated[
    list[str] | None,
    Option("--skip", metavar="GLOB", help="Leave the BatchNorm whose names match as they are."),
]
ProvenanceOption = Annotated[
    bool,
    Option(
        "--provenance/--no-provenance",
        help="Note the version of bnfold, the hash of MODEL and the verdict in the file "
        "(.onnx, .pt2, .safetensors).",
    ),
]
InputData = Annotated[
    str | None,
    Option(
        "--data",
        metavar="SOURCE",
        help=f"Inputs to compare on: {DATA_KINDS}.",
        default="made from the input signature",
    ),
]


@dataclass(frozen=True)
class SampleFlags:
    """Which rows of ``--data`` are taken, and how images become tensors."""

    samples: Annotated[
        int | None,
        Option(
            help="How many samples of --data to take.",
            min=1,
            panel=SAMPLE_PANEL,
            default="2048 to recalibrate, 512 to inspect, 64 to compare",
        ),
    ] = None
    shuffle: Annotated[
        bool,
        Option(
            "--shuffle",
            help="Draw samples at random, not evenly spread.",
            panel=SAMPLE_PANEL,
        ),
    ] = False
    seed: Annotated[
        int | None, Option(help="Seed for --shuffle.", min=0, panel=SAMPLE_PANEL, default="0")
    ] = None
    image_size: Annotated[
        str | None,
        Option(
            metavar="HEIGHTxWIDTH",
            help="What images are resized to.",
            panel=_IMAGES,
            default=_ITS_OWN,
        ),
    ] = None
    mean: Annotated[
        str | None,
        Option(metavar="R,G,B", help="Subtracted from colours in [0, 1].", panel=_IMAGES),
    ] = None
    std: Annotated[str | None, Option(metavar="R,G,B", help="Divides colours.", panel=_IMAGES)] = (
        None
    )
    layout: Annotated[
        str | None,
        Option(
            metavar="NCHW|NHWC",
            help="Where the colours stand.",
            panel=_IMAGES,
            default=_ITS_OWN,
        ),
    ] = None
    color: Annotated[
        str | None,
        Option(metavar="rgb|bgr|gray", help="Their order.", panel=_IMAGES, default=_ITS_OWN),
    ] = None

    no_size_limit: Annotated[
        bool,
        Option(
            "--no-size-limit",
            help="Read archives and images that unpack to far more than they hold.",
            panel=SAMPLE_PANEL,
        ),
    ] = False

    @property
    def given(self) -> dict[str, bool]:
        """Which of these options stand on the command line."""
        return {
            option_name(f.name): getattr(self, f.name) not in (None, False) for f in fields(self)
        }

    def options(self, default: int) -> SampleOptions:
        """What the data layer wants, ``default`` samples where none are asked for.

        Raises:
            UsageError: where one of them makes no sense.
        """
        from bnfold.data import SampleOptions

        return SampleOptions(
            samples=self.samples or default,
            shuffle=self.shuffle,
            seed=self.seed or 0,
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
        Option(help="Threads of the runtime.", min=1, default="its choice", panel=_RUNTIME),
    ] = None
    provider: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="onnxruntime's execution provider, for ONNX models.",
            default="CPUExecutionProvider",
            panel=_RUNTIME,
        ),
    ] = None
    device: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="torch's device, for PyTorch models: cuda, cuda:1, …",
            default="cpu",
            panel=_RUNTIME,
        ),
    ] = None

    @property
    def given(self) -> dict[str, bool]:
        """Which of these options stand on the command line."""
        return {option_name(f.name): getattr(self, f.name) is not None for f in fields(self)}

    def options(self) -> RuntimeOptions:
        """What the observers want."""
        from bnfold.recalibration.observer import CPU_DEVICE, CPU_PROVIDER, RuntimeOptions

        return RuntimeOptions(
            self.threads, self.provider or CPU_PROVIDER, self.device or CPU_DEVICE
        )


@dataclass(frozen=True)
class OutputFlags:
    """How results are shown."""

    format: FormatOption = Format.TEXT
    report: ReportOption = None
    verbose: VerboseOption = False
    quiet: QuietOption = False


def option_name(field: str) -> str:
    """``image_size`` is ``--image-size``."""
    return "--" + field.replace("_", "-")


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
