"""bnfold: audit, recalibrate and fold the BatchNorm layers of a trained network.

>>> import bnfold
>>> model = bnfold.load("model.onnx")
>>> bnfold.inspect(model).to_json()["summary"]  # doctest: +SKIP
>>> bnfold.fold(model, "folded.onnx").ok  # doctest: +SKIP
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold import errors

if TYPE_CHECKING:
    from bnfold.formats import Model
    from bnfold.jobs import FoldResult, Inspection, VerifyResult

__version__ = "0.1.0"

AnyPath = str | PathLike[str]


def load(path: AnyPath, *, freeze_initializers: bool = False) -> Model:
    """Opens a model file, told apart by its content.

    Args:
        path: the file.
        freeze_initializers: take initializers that are also graph inputs for constants.

    Raises:
        errors.ModelError: where it is missing, damaged or of an unknown kind.
        errors.MissingExtraError: where an optional dependency is needed to read it.
    """
    from bnfold.formats import open_model

    return open_model(Path(path), freeze_initializers=freeze_initializers)


def inspect(model: Model | AnyPath, *, reparameterize: bool = False) -> Inspection:
    """Every BatchNorm of a model, and what `fold` would do with it.

    Raises:
        errors.ModelError: as for `load`.
    """
    from bnfold.jobs import inspect as job

    return job(_opened(model), reparameterize=reparameterize)


def fold(
    model: Model | AnyPath,
    target: AnyPath | None,
    *,
    data: AnyPath | None = None,
    verify: bool = True,
    strict: bool = False,
    force: bool = False,
    reparameterize: bool = False,
) -> FoldResult:
    """Folds what can go exactly and writes the result, proved, to ``target``.

    Args:
        model: an opened model or a path.
        target: the file to write; None plans only.
        data: a sample (.npz or .npy) to verify on; None makes inputs from the signature.
        verify: compare outputs before anything is written.
        strict: write nothing where a BatchNorm has to stay.
        force: allow ``target`` to be the model's own file.
        reparameterize: merge parallel linear branches into one.

    Raises:
        errors.BnfoldError: one of its kinds, with a sentence that says what to do. A verification
            that fails is no exception: nothing is written and ``ok`` of the result is False.
    """
    from bnfold.jobs import fold as job

    return job(
        _opened(model),
        None if target is None else Path(target),
        data=None if data is None else Path(data),
        verified=verify,
        strict=strict,
        force=force,
        reparameterize=reparameterize,
    )


def verify(
    reference: Model | AnyPath, candidate: Model | AnyPath, *, data: AnyPath | None = None
) -> VerifyResult:
    """Compares two models of the same signature on the same inputs.

    Raises:
        errors.BnfoldError: where they cannot be compared.
    """
    from bnfold.jobs import verify as job

    sample = None if data is None else Path(data)
    return job(_opened(reference), _opened(candidate), data=sample)


def _opened(model: Model | AnyPath) -> Model:
    return load(model) if isinstance(model, str | PathLike) else model


__all__ = ["errors", "fold", "inspect", "load", "verify"]
