"""Opening, inspecting and verifying: what the commands do, for models and data of any form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Union, cast

from bnfold.api.models import Opening, data_of, is_module
from bnfold.api.results import Inspected, Verified, told
from bnfold.progress import Progress, no_progress

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray
    from torch import Tensor  # noqa: TID251  only for type checkers
    from torch.export import ExportedProgram  # noqa: TID251  only for type checkers
    from torch.nn import Module  # noqa: TID251  only for type checkers

    from bnfold.data import SampleOptions
    from bnfold.formats import Model

AnyPath = Union[str, "PathLike[str]"]
AnyModel = Union[AnyPath, "Model", "onnx.ModelProto", bytes, "Module", "ExportedProgram"]
AnyData = Union[AnyPath, "NDArray[Any]", "Tensor", Mapping[str, Any], Iterable[Any]]


def load(
    source: AnyPath,
    *,
    freeze_initializers: bool = False,
    weights: AnyPath | None = None,
    weights_key: str | None = None,
    inputs: Sequence[str] = (),
    example_inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    data: AnyData | None = None,
    sampling: SampleOptions | None = None,
    allow_pickle: bool = False,
) -> Model:
    """Opens a model file, told apart by its content, or builds one from a factory.

    Args:
        source: a file, or ``package.module:factory``, or ``file.py:factory``.
        freeze_initializers: take initializers that are also graph inputs for constants (ONNX).
        weights: a checkpoint for the module of a factory (PyTorch).
        weights_key: which network of a checkpoint, where it holds several.
        inputs: example inputs such as ``1x3x224x224:float32``, for what has to be traced.
        example_inputs: such inputs themselves: a tuple by position, or a dict by name.
        kwargs: further ones by name.
        dynamic_shapes: which of their axes are free: None is the batch, ``"auto"`` as many as can
            be, anything else what torch.export takes.
        data: a sample whose first rows are such inputs, instead.
        sampling: how to read images of it.
        allow_pickle: load files that hold Python objects, which runs code from them.

    Raises:
        errors.ModelError: where it is missing, damaged or of an unknown kind.
        errors.MissingExtraError: where an optional dependency is needed to read it.
        errors.UsageError: where the options do not fit the model.
    """
    from bnfold.errors import UsageError

    if not isinstance(source, str | PathLike):
        raise UsageError(
            f"load takes a path or the name of a factory, not {type(source).__name__}; the other "
            "functions take a model in memory as it is"
        )
    opening = Opening(
        example_inputs,
        kwargs,
        dynamic_shapes,
        data_of(data),
        sampling,
        weights,
        weights_key,
        inputs,
        allow_pickle,
        freeze_initializers,
    )
    return opening.subject(source).model


def inspect(
    model: AnyModel,
    example_inputs: Any = None,
    *,
    data: AnyData | None = None,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    reparameterize: bool = False,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    samples: int | None = None,
    mask: str | Sequence[str] = (),
    padding: str | Sequence[str] = (),
    sampling: SampleOptions | None = None,
    device: str = "cpu",
    provider: str = "CPUExecutionProvider",
    threads: int | None = None,
    submodule: str | Sequence[str] = (),
    progress: Progress | None = None,
) -> Inspected:
    """Every BatchNorm of a model, what is wrong with it, and what `fold` would do with it.

    Args:
        model: a path, a factory, an ``onnx.ModelProto`` or its bytes, a module, an
            ``ExportedProgram``, or what `load` returned.
        example_inputs: what a module is traced on: a tuple by position, or a dict by name.
        data: a path, an array, a dict of arrays, or an iterable of batches; stored statistics are
            compared with what it shows. A module is traced on its first samples.
        kwargs: further example inputs by name.
        dynamic_shapes: which of their axes are free, see `load`.
        reparameterize: predict with parallel linear branches merged.
        select: rules of the audit to run, codes or their beginnings; all by default.
        ignore: rules to leave out.
        samples: how many samples of ``data`` to take, 512 by default.
        mask: arrays of ``data``: frames where they are 0 do not count.
        padding: the opposite: frames where they are not 0 do not count.
        sampling: which samples, and how to read images.
        device: torch's device for ``data``.
        provider: onnxruntime's.
        threads: of the runtime.
        submodule: take these submodules alone, each by itself on what reaches it in the whole, which
            need not be traced; for a module, or the name of a factory.
        progress: called with the stage, and how much of how much is done.

    Raises:
        errors.BnfoldError: one of its kinds, with a sentence that says what to do.
    """
    from bnfold.audit import load_settings
    from bnfold.jobs import inspect as job
    from bnfold.jobs.inspect import DEFAULT_SAMPLES
    from bnfold.recalibration.observer import RuntimeOptions

    source = data_of(data)
    chosen = sampled(sampling, samples, DEFAULT_SAMPLES, mask, padding)
    opening = Opening(example_inputs, kwargs, dynamic_shapes, source, chosen)
    selection = None
    if select or ignore:
        selection = load_settings().overridden(list(select), list(ignore)).selection
    if submodule:
        from bnfold.jobs.parts import inspect_parts

        of_parts = inspect_parts(
            opening.parts(model, names_of(submodule)),
            reparameterize=reparameterize,
            selection=selection,
            data=source,
            sampling=chosen,
            runtime=RuntimeOptions(threads, provider, device),
            progress=progress,
        )
        return cast("Inspected", told(Inspected(of_parts, model)))
    tell = progress or no_progress
    tell("opening", 0, 1)
    subject = opening.subject(model)
    found = job(
        subject.model,
        reparameterize=reparameterize,
        selection=selection,
        data=source,
        sampling=chosen,
        runtime=RuntimeOptions(threads, provider, device),
        progress=tell,
    )
    report = replace(found, model=subject.shown(found.model))
    result: Inspected = told(Inspected(report, model))
    return result


def verify(
    reference: AnyModel,
    candidate: AnyModel,
    example_inputs: Any = None,
    *,
    data: AnyData | None = None,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    samples: int | None = None,
    sampling: SampleOptions | None = None,
    submodule: str | Sequence[str] = (),
    progress: Progress | None = None,
) -> Verified:
    """Compares two models of the same signature on the same inputs.

    Args:
        reference: the model to trust, in any form.
        candidate: the other one, in any form.
        example_inputs: what modules are traced on.
        data: what to compare on; inputs made from the signature by default.
        kwargs: further example inputs by name.
        dynamic_shapes: which of their axes are free, see `load`.
        samples: how many samples of ``data`` to take, 64 by default.
        sampling: which samples, and how to read images.
        submodule: compare these submodules alone, each by itself on what reaches it in the whole
            reference; for modules, or names of factories.
        progress: called with the stage, and how much of how much is done.

    Raises:
        errors.BnfoldError: where they cannot be compared.
    """
    from bnfold.jobs import verify as job
    from bnfold.jobs.common import DEFAULT_SAMPLES

    source = data_of(data)
    chosen = sampled(sampling, samples, DEFAULT_SAMPLES)
    tell = progress or no_progress
    tell("opening", 0, 1)
    if submodule:
        from bnfold.jobs.parts import verify_parts

        opening = Opening(example_inputs, kwargs, dynamic_shapes, source, chosen)
        parts = [opening.parts(model, names_of(submodule)) for model in (reference, candidate)]
        of_parts = verify_parts(*parts, data=source, sampling=chosen, progress=tell)
        return cast("Verified", told(Verified(of_parts)))
    first, second = (
        _for(model, Opening(example_inputs, kwargs, dynamic_shapes, source, chosen)).subject(model)
        for model in (reference, candidate)
    )
    found = job(first.model, second.model, data=source, sampling=chosen, progress=tell)
    result: Verified = told(
        Verified(
            replace(
                found,
                reference=first.shown(found.reference),
                candidate=second.shown(found.candidate),
            )
        )
    )
    return result


def _for(model: Any, opening: Opening) -> Opening:
    """Example inputs are for the one of both models that has to be traced."""
    from bnfold.formats import is_onnx

    if is_module(model) or (isinstance(model, str | PathLike) and not is_onnx(str(model))):
        return opening
    return replace(opening, example_inputs=None, kwargs=None, dynamic_shapes=None)


def sampled(
    sampling: SampleOptions | None,
    samples: int | None,
    default: int,
    mask: str | Sequence[str] = (),
    padding: str | Sequence[str] = (),
) -> SampleOptions:
    """The options of a sample, from single keywords and from all of them."""
    from bnfold.data import SampleOptions

    chosen = sampling or SampleOptions()
    return replace(
        chosen,
        samples=samples or chosen.samples or default,
        mask=names_of(mask) or chosen.mask,
        padding=names_of(padding) or chosen.padding,
    )


def names_of(given: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several."""
    return (given,) if isinstance(given, str) else tuple(given)
