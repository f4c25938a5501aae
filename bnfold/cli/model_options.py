"""Options that say how a MODEL argument is opened, and which frames of its data count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnfold.cli.options import SAMPLE_PANEL, TORCH_PANEL
from bnfold.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from bnfold.data import SampleOptions
    from bnfold.formats import Model


@dataclass(frozen=True)
class MaskFlags:
    """Which frames of a padded sample count."""

    mask: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="An array of --data (attention_mask, say): frames where it is 0 do not count; "
            "may be repeated, for layers at another rate.",
            rich_help_panel=SAMPLE_PANEL,
        ),
    ] = None
    padding: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="The opposite: frames where it is not 0 do not count.",
            rich_help_panel=SAMPLE_PANEL,
        ),
    ] = None

    def on(self, sampling: SampleOptions) -> SampleOptions:
        """``sampling`` with these masks."""
        return replace(sampling, mask=tuple(self.mask or ()), padding=tuple(self.padding or ()))


@dataclass(frozen=True)
class ModelFlags:
    """How a MODEL argument is opened."""

    weights: Annotated[
        Path | None,
        typer.Option(help="A checkpoint for the module of a factory.", rich_help_panel=TORCH_PANEL),
    ] = None
    weights_key: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which network of a checkpoint, where it holds several (model, model_ema).",
            rich_help_panel=TORCH_PANEL,
        ),
    ] = None
    input: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]SHAPE[:DTYPE]",
            help="An example input such as 1x3x224x224; may be repeated.",
            rich_help_panel=TORCH_PANEL,
            show_default="the first samples of --data",
        ),
    ] = None
    dynamic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:AXES",
            help="Axes that stay free when a module is traced, such as x:0,2,3, or auto: as many as "
            "can be; may be repeated.",
            rich_help_panel=TORCH_PANEL,
            show_default="the batch",
        ),
    ] = None
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle",
            help="Load pickled Python objects, which runs code from the file.",
            rich_help_panel=TORCH_PANEL,
        ),
    ] = False
    freeze_initializers: Annotated[
        bool,
        typer.Option(
            "--freeze-initializers",
            help="Take initializers that are also graph inputs for constants.",
            rich_help_panel="ONNX models",
        ),
    ] = False

    def open(
        self, model: str, data: str | None = None, sampling: SampleOptions | None = None
    ) -> Model:
        """Opens what a MODEL argument names; a module may be traced on ``data``."""
        from bnfold.formats import open_model

        return open_model(
            model,
            freeze_initializers=self.freeze_initializers,
            weights=self.weights,
            weights_key=self.weights_key,
            inputs=tuple(self.input or ()),
            data=data,
            sampling=sampling,
            dynamic=self._dynamic(),
            allow_pickle=self.allow_pickle,
        )

    def open_parts(
        self, model: str, only: Sequence[str], data: str | None, sampling: SampleOptions
    ) -> Any:
        """The submodules of what a factory makes: those named, or all that can be traced."""
        from bnfold.formats import examples_in, is_onnx

        if is_onnx(model) or self.freeze_initializers:
            raise UsageError(f"--submodule is for the modules of PyTorch, and {model} is ONNX")
        if find_spec("torch") is None:
            raise MissingExtraError(f"{model} is a PyTorch model, which", "torch")
        from bnfold.formats.torch import Parts

        if self.dynamic:
            raise UsageError("--dynamic goes with what is traced whole, and not with --submodule")
        return Parts.open(
            model,
            only,
            weights=self.weights,
            weights_key=self.weights_key,
            inputs=tuple(self.input or ()),
            examples=examples_in(data, sampling),
            allow_pickle=self.allow_pickle,
        )

    def _dynamic(self) -> Any:
        if not self.dynamic:
            return None
        if find_spec("torch") is None:
            raise MissingExtraError("--dynamic", "torch")
        from bnfold.formats.torch import parse_dynamic

        return parse_dynamic(self.dynamic)
