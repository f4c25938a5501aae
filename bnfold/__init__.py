"""bnfold: audit, recalibrate and fold the BatchNorm layers of a trained network.

>>> import bnfold
>>> model = bnfold.load("model.onnx")
>>> bnfold.inspect(model).to_json()["summary"]  # doctest: +SKIP
>>> bnfold.fold(model, "folded.onnx").ok  # doctest: +SKIP
"""

from __future__ import annotations

from bnfold import startup

startup.begin()  # does nothing where bnfold is imported by another program

import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from bnfold import errors

if TYPE_CHECKING:
    from torch.fx import GraphModule  # noqa: TID251  only for type checkers
    from torch.nn import Module  # noqa: TID251  only for type checkers

    from bnfold.data import SampleOptions
    from bnfold.formats import Model
    from bnfold.jobs import FoldResult, Inspection, VerifyResult
    from bnfold.jobs.recalibration_result import RecalibrationOptions, RecalibrationResult

__version__ = "0.1.0"

AnyPath = str | PathLike[str]


def load(
    source: AnyPath,
    *,
    freeze_initializers: bool = False,
    weights: AnyPath | None = None,
    inputs: Sequence[str] = (),
    data: AnyPath | None = None,
    allow_pickle: bool = False,
) -> Model:
    """Opens a model file, told apart by its content, or builds one from a factory.

    Args:
        source: a file, or ``package.module:factory``, or ``file.py:factory``.
        freeze_initializers: take initializers that are also graph inputs for constants (ONNX).
        weights: a checkpoint for the module of a factory (PyTorch).
        inputs: example inputs such as ``1x3x224x224:float32``, for what has to be traced.
        data: a sample whose first rows are such inputs, instead.
        allow_pickle: load files that hold Python objects, which runs code from them.

    Raises:
        errors.ModelError: where it is missing, damaged or of an unknown kind.
        errors.MissingExtraError: where an optional dependency is needed to read it.
        errors.UsageError: where the options do not fit the model.
    """
    from bnfold.formats import open_model

    if not isinstance(source, str | PathLike):
        raise errors.UsageError(
            f"load takes a path or the name of a factory, not {type(source).__name__}"
        )
    return open_model(
        str(source),
        freeze_initializers=freeze_initializers,
        weights=None if weights is None else Path(weights),
        inputs=inputs,
        data=None if data is None else _source(data),
        allow_pickle=allow_pickle,
    )


def inspect(
    model: Model | AnyPath, *, reparameterize: bool = False, data: AnyPath | None = None
) -> Inspection:
    """Every BatchNorm of a model, what is wrong with it, and what `fold` would do with it.

    Args:
        model: an opened model or a path.
        reparameterize: predict with parallel linear branches merged.
        data: a sample; stored statistics are compared with what it shows.

    Raises:
        errors.ModelError: as for `load`.
        errors.DataError: where ``data`` does not fit.
    """
    from bnfold.jobs import inspect as job

    sample = None if data is None else _source(data)
    return job(_opened(model), reparameterize=reparameterize, data=sample)


@overload
def fold(
    model: Module,
    target: tuple[Any, ...],
    *,
    verify: bool = ...,
    reparameterize: bool = ...,
) -> GraphModule: ...
@overload
def fold(
    model: Model | AnyPath,
    target: AnyPath | None,
    *,
    data: AnyPath | None = ...,
    verify: bool = ...,
    strict: bool = ...,
    force: bool = ...,
    reparameterize: bool = ...,
    keep_modules: bool = ...,
) -> FoldResult: ...
def fold(
    model: Any, target: Any, *, verify: bool = True, reparameterize: bool = False, **options: Any
) -> Any:
    """Folds what can go exactly.

    ``fold(model, target)`` takes an opened model or a path, writes the result, proved, to
    ``target`` (None plans only) and returns a `FoldResult`. ``fold(module, example_inputs)`` takes a
    ``torch.nn.Module``, leaves it as it is, and returns a folded ``torch.fx.GraphModule``.

    Args:
        model: an opened model, a path, or a module.
        target: the file to write; for a module, a tuple of example inputs.
        verify: compare outputs before anything is written or returned.
        reparameterize: merge parallel linear branches into one.
        **options: for files: ``data`` (a sample to verify on), ``strict`` (write nothing where a
            BatchNorm has to stay), ``force`` (allow ``target`` to be the model's own file),
            ``keep_modules`` (a state dict for the unchanged class).

    Raises:
        errors.BnfoldError: one of its kinds, with a sentence that says what to do. A verification
            that fails is no exception for files: nothing is written and ``ok`` of the result is
            False. For a module it is a `errors.VerificationError`.
    """
    if _is_module(model):
        from bnfold.formats.torch import fold_module

        return fold_module(model, target, verified=verify, reparameterize=reparameterize)
    from bnfold.jobs import fold as job

    if options.get("data") is not None:
        options["data"] = _source(options["data"])
    path = None if target is None else Path(target)
    return job(_opened(model), path, verified=verify, reparameterize=reparameterize, **options)


def verify(
    reference: Model | AnyPath, candidate: Model | AnyPath, *, data: AnyPath | None = None
) -> VerifyResult:
    """Compares two models of the same signature on the same inputs.

    Raises:
        errors.BnfoldError: where they cannot be compared.
    """
    from bnfold.jobs import verify as job

    sample = None if data is None else _source(data)
    return job(_opened(reference), _opened(candidate), data=sample)


def recalibrate(
    model: Model | AnyPath,
    target: AnyPath,
    data: AnyPath,
    *,
    options: RecalibrationOptions | None = None,
    sampling: SampleOptions | None = None,
) -> RecalibrationResult | None:
    """Measures the population statistics again on a sample and writes the model with them.

    Args:
        model: an opened model or a path.
        target: the file to write.
        data: a sample of the deployed model's inputs.
        options: method, prior, which layers; the population method by default.
        sampling: how many samples, and how to read images.

    Returns:
        What changed; None in all processes but the first where several share the work.

    Raises:
        errors.BnfoldError: one of its kinds; nothing is written then.
    """
    from bnfold.jobs.recalibrate import recalibrate as job
    from bnfold.jobs.recalibration_result import RecalibrationOptions

    return job(
        _opened(model),
        Path(target),
        _source(data),
        options=options or RecalibrationOptions(),
        sampling=sampling,
    )


def _opened(model: Model | AnyPath) -> Model:
    if isinstance(model, str | PathLike):
        return load(model)
    if not hasattr(model, "graph"):
        raise errors.UsageError(
            f"a path, or a model that bnfold.load has opened, is wanted here, not "
            f"{type(model).__name__}; a torch module in memory is what bnfold.fold takes"
        )
    return model


def _source(data: object) -> str:
    """A sample by its name.

    Raises:
        errors.UsageError: where it is a sample itself.
    """
    if isinstance(data, str | PathLike):
        return str(data)
    raise errors.UsageError(
        f"data is a path, or the name of a callable such as file.py:loader, not {type(data).__name__}; "
        "save arrays with numpy.savez, or name a function that yields them"
    )


def _is_module(model: object) -> bool:
    """Whether it is a ``torch.nn.Module``; without torch loaded there is none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


__all__ = ["errors", "fold", "inspect", "load", "recalibrate", "verify"]
