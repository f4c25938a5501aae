"""Options that say how a MODEL argument is opened, and which frames of its data count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bnfold.cli.options import SAMPLE_PANEL, TORCH_PANEL, SubmoduleOption, option_name
from bnfold.cli.parsing import Option
from bnfold.errors import MissingExtraError, ModelError, UsageError

if TYPE_CHECKING:
    from bnfold.data import SampleOptions
    from bnfold.formats import Model
    from bnfold.progress import Progress


@dataclass(frozen=True)
class MaskFlags:
    """Which frames of a padded sample count."""

    mask: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="An array of --data (attention_mask, say): frames where it is 0 do not count; "
            "several, for layers at another rate.",
            panel=SAMPLE_PANEL,
        ),
    ] = None
    padding: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="The opposite: frames where it is not 0 do not count.",
            panel=SAMPLE_PANEL,
        ),
    ] = None

    @property
    def given(self) -> dict[str, bool]:
        """Which of these options stand on the command line."""
        return {"--mask": bool(self.mask), "--padding": bool(self.padding)}

    def on(self, sampling: SampleOptions) -> SampleOptions:
        """``sampling`` with these masks."""
        return replace(sampling, mask=tuple(self.mask or ()), padding=tuple(self.padding or ()))


@dataclass(frozen=True)
class ModelFlags:
    """How a MODEL argument is opened."""

    weights: Annotated[
        Path | None,
        Option(help="A checkpoint for the module of a factory.", panel=TORCH_PANEL),
    ] = None
    weights_key: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Which network of a checkpoint, where it holds several (model, model_ema).",
            panel=TORCH_PANEL,
        ),
    ] = None
    input: Annotated[
        list[str] | None,
        Option(
            metavar="[NAME=]SHAPE[:DTYPE]",
            help="An example input such as 1x3x224x224.",
            panel=TORCH_PANEL,
            default="the first samples of --data",
        ),
    ] = None
    dynamic: Annotated[
        list[str] | None,
        Option(
            metavar="NAME:AXES",
            help="Axes that stay free when a module is traced, such as x:0,2,3, or auto: as many as "
            "can be.",
            panel=TORCH_PANEL,
            default="the batch",
        ),
    ] = None
    allow_pickle: Annotated[
        bool,
        Option(
            "--allow-pickle",
            help="Load pickled Python objects, which runs code from the file.",
            panel=TORCH_PANEL,
        ),
    ] = False
    submodule: SubmoduleOption = None
    freeze_initializers: Annotated[
        bool,
        Option(
            "--freeze-initializers",
            help="Take initializers that are also graph inputs for constants.",
            panel="ONNX models",
        ),
    ] = False

    @property
    def given(self) -> dict[str, bool]:
        """Which of these options stand on the command line."""
        return {option_name(f.name): bool(getattr(self, f.name)) for f in fields(self)}

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

    def open_other(self, model: str) -> Model:
        """Opens a second model, to which the checkpoint of the first does not belong."""
        other = replace(self, weights=None, weights_key=None)
        return (other if self.traces([model]) else ModelFlags()).open(model)

    def check_weights(self) -> None:
        """Raises a `ModelError` where there is no such file."""
        check_weights(self.weights, "--weights")

    def tell_opening(self, progress: Progress, name: str) -> None:
        """Says that a model is being opened, once for each thing that takes its time."""
        from bnfold.formats import check_code

        check_code(name)
        if not self.traces([name]):
            progress("opening", 0, 1)
            return
        if find_spec("torch") is not None:
            progress("importing torch", 0, 1)
            import_module("bnfold.formats.torch")
        progress("opening, tracing", 0, 1)

    def traces(self, names: Sequence[str]) -> bool:
        """Whether example inputs may be needed: not where all models are ONNX files."""
        from bnfold.formats import is_onnx

        return not all(is_onnx(name) for name in names if name != "-")

    def open_parts(self, model: str, data: str | None, sampling: SampleOptions) -> Any:
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
            tuple(self.submodule or ()),
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


def check_weights(path: Path | None, option: str) -> None:
    """Refuses weights that are not there, before anything is imported.

    Raises:
        ModelError: with what may have been meant.
    """
    if path is not None and not path.exists():
        from bnfold.files import missing

        raise ModelError(missing(path, f"check {option}"))
