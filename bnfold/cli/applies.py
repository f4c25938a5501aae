"""An option that does not apply to what was given is refused, not ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bnfold.cli.model_options import MaskFlags, ModelFlags
from bnfold.cli.options import RuntimeFlags, SampleFlags
from bnfold.errors import UsageError

if TYPE_CHECKING:
    from bnfold.data import SampleOptions

_TORCH = (
    "--weights",
    "--weights-key",
    "--input",
    "--dynamic",
    "--allow-pickle",
    "--keep-modules",
    "--submodule",
)


def check_data_options(
    data: str | None,
    sample: SampleFlags,
    masks: MaskFlags | None = None,
    runtime: RuntimeFlags | None = None,
) -> None:
    """Refuses what says how ``data`` is read or run, where it cannot be meant.

    Raises:
        UsageError: naming the option.
    """
    groups = [sample.given, masks.given if masks else {}, runtime.given if runtime else {}]
    if data is None:
        for option in _given(groups):
            raise UsageError(f"{option} goes with --data, which is not given")
        return
    if sample.seed is not None and not sample.shuffle:
        raise UsageError("--seed goes with --shuffle, which is not given")


def check_images(data: str | None, sampling: SampleOptions) -> None:
    """Refuses options for images where ``data`` is something else; see `check_image_options`."""
    if data is not None:
        from bnfold.data.opening import check_image_options

        check_image_options(data, sampling)


def check_model_options(
    model: str, source: ModelFlags, runtime: RuntimeFlags | None = None, **more: bool
) -> None:
    """Refuses options that are for models of the other kind.

    Args:
        model: what the user named.
        source: how it is to be opened.
        runtime: how it is to run.
        more: further options by field name, and whether they are given.

    Raises:
        UsageError: naming the option.
        ModelError: where there is no such file.
    """
    from bnfold.formats import is_onnx

    others = {"--" + name.replace("_", "-"): given for name, given in more.items()}
    given = set(_given([source.given, runtime.given if runtime else {}, others]))
    onnx = is_onnx(model)
    if onnx and (wrong := next((o for o in (*_TORCH, "--device") if o in given), None)):
        hint = "; it runs with --provider" if wrong == "--device" else ""
        raise UsageError(f"{wrong} is for PyTorch, and {model} is an ONNX model{hint}")
    if not onnx and (wrong := next((o for o in _ONNX if o in given), None)):
        hint = "; it runs with --device" if wrong == "--provider" else ""
        raise UsageError(f"{wrong} is for ONNX models, and {model} is one of PyTorch{hint}")


_ONNX = ("--freeze-initializers", "--provider")


def _given(groups: Iterable[Mapping[str, bool]]) -> list[str]:
    return [option for group in groups for option, given in group.items() if given]


def check_runtime(models: Sequence[str], runtime: RuntimeFlags) -> None:
    """Refuses a runtime for models of another kind than all of ``models`` are.

    Raises:
        UsageError: naming the option.
    """
    from bnfold.formats import is_onnx

    onnx = [is_onnx(model) for model in models]
    if runtime.device is not None and all(onnx):
        raise UsageError(
            "--device is for PyTorch, and these are ONNX models; they run with --provider"
        )
    if runtime.provider is not None and not any(onnx):
        raise UsageError("--provider is for ONNX models, and these are of PyTorch; use --device")
