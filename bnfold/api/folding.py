"""Folding: what comes in comes out, in memory or as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from bnfold.api.calls import AnyData, AnyPath, names_of, sampled
from bnfold.api.models import TORCH, Opening, Subject, data_of, is_module
from bnfold.api.results import Folded, told
from bnfold.errors import TracingError, UsageError
from bnfold.progress import Progress, no_progress

if TYPE_CHECKING:
    from bnfold.data import Data, SampleOptions
    from bnfold.formats import Model
    from bnfold.jobs import FoldResult
    from bnfold.jobs.fold_options import FoldOptions
    from bnfold.planning import Rest

M = TypeVar("M")
"""The kind of model that was given, see `calls.AnyModel`."""


def fold(
    model: M,
    second: Any = None,
    *,
    output: AnyPath | None = None,
    example_inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    data: AnyData | None = None,
    samples: int | None = None,
    sampling: SampleOptions | None = None,
    verify: bool = True,
    strict: bool = False,
    force: bool = False,
    reparameterize: bool = False,
    keep_modules: bool = False,
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    min_folded: int | str | None = None,
    provenance: bool = True,
    rest: Literal["keep", "affine", "depthwise"] = "keep",
    submodule: str | Sequence[str] = (),
    progress: Progress | None = None,
) -> Folded[M]:
    """Folds every BatchNorm that can go exactly, and proves that nothing changed.

    ``fold(module, (x,))`` gives the folded module, ``fold(proto)`` the folded proto, and
    ``fold("model.onnx", "folded.onnx")`` writes a file. A path without an output is planned only.
    What was given is never changed.

    Args:
        model: a path, a factory, an ``onnx.ModelProto`` or its bytes, a module, an
            ``ExportedProgram``, or what `load` returned.
        second: the file to write; for a module its example inputs.
        output: the file to write.
        example_inputs: what a module is traced on: a tuple by position, or a dict by name.
        kwargs: further example inputs by name.
        dynamic_shapes: which of their axes are free, see `load`; for a module in memory as many as
            can be.
        data: what to verify on; inputs made from the signature by default.
        samples: how many samples of ``data`` to take, 64 by default.
        sampling: which samples, and how to read images.
        verify: compare outputs before anything is written or returned.
        strict: make nothing where a BatchNorm has to stay.
        force: allow ``output`` to be the model's own file.
        reparameterize: merge parallel linear branches into one.
        keep_modules: a module of the unchanged class (or a state dict for it); folds that need
            another structure are left out. Where torch.export cannot trace the whole, what it can
            trace inside is folded.
        only: globs on the names of the BatchNorm to fold; the others stay.
        skip: globs on the names of those that stay.
        min_folded: make nothing where fewer fold: a number, or a share such as ``"90%"``.
        provenance: note in what is written (ONNX, .pt2, .safetensors) the version of bnfold, the
            hash of ``model``, and whether it is verified.
        rest: a BatchNorm that has to stay is left as it is, or written as a product and a sum
            (``affine``) or as a ``depthwise`` 1x1 convolution.
        submodule: fold these submodules alone; for a module, with ``keep_modules``.
        progress: called with the stage, and how much of how much is done.

    Returns:
        A result whose ``model`` is of the kind that was given: of a path, the path that was written.

    Raises:
        errors.BnfoldError: one of its kinds, with a sentence that says what to do. A verification
            that fails is no exception: ``ok`` is False, nothing is written, and there is no
            ``model``.
    """
    from bnfold.jobs.common import DEFAULT_SAMPLES
    from bnfold.jobs.fold_options import FoldOptions, Minimum

    output, example_inputs = _second(model, second, output, example_inputs)
    source = data_of(data)
    chosen = sampled(sampling, samples, DEFAULT_SAMPLES)
    tell = progress or no_progress
    tell("opening", 0, 1)
    in_memory = output is None and not isinstance(model, str | PathLike)
    free = "auto" if dynamic_shapes is None and in_memory and is_module(model) else dynamic_shapes
    opening = Opening(example_inputs, kwargs, free, source, chosen)
    options = FoldOptions(
        verified=verify,
        strict=strict,
        minimum=None if min_folded is None else Minimum.parse(str(min_folded)),
        only=names_of(only),
        skip=names_of(skip),
        force=force,
        reparameterize=reparameterize,
        keep_modules=keep_modules,
        provenance=provenance,
        rest=_rest(rest),
    )
    how = _How(source, chosen, options, tell)
    by_parts = in_memory and keep_modules and is_module(model)
    if submodule and not by_parts:
        raise UsageError("submodule= goes with a module in memory and keep_modules=True")
    found = _fold_parts(model, opening, how, names_of(submodule)) if submodule else None
    if found is None:
        try:
            subject = opening.subject(model)
        except TracingError:
            if not by_parts:
                raise
            found = _fold_parts(model, opening, how, ())
        else:
            found = _fold(subject, None if output is None else Path(output), how)
    tell("done", 1, 1)
    return cast("Folded[M]", told(found))


def _rest(name: str) -> Rest:
    from bnfold.planning import Rest

    if name not in [each.value for each in Rest]:
        known = ", ".join(each.value for each in Rest)
        raise UsageError(f"rest={name!r} is none of {known}")
    return Rest(name)


class _How:
    """How to fold, for the job and for what is in memory."""

    def __init__(
        self,
        data: Data | None,
        sampling: SampleOptions,
        options: FoldOptions,
        progress: Progress,
    ) -> None:
        self.data, self.sampling, self.options = data, sampling, options
        self.progress = progress

    def to(self, model: Model, target: Path | None) -> FoldResult:
        from bnfold.jobs import fold as job

        return job(
            model,
            target,
            data=self.data,
            sampling=self.sampling,
            options=self.options,
            progress=self.progress,
        )


def _fold(subject: Subject, target: Path | None, how: _How) -> Folded[Any]:
    if subject.kind == TORCH:
        return _fold_network(subject, target, how)
    if target is None and not subject.in_memory:
        return Folded(how.to(subject.model, None), _planned_only)
    if target is not None:
        report = how.to(subject.model, target)
        shown = replace(report, model=subject.shown(report.model))
        return Folded(shown, lambda: subject.returned(target))
    from bnfold.files import scratch_folder

    with scratch_folder() as folder:
        written = folder / "folded.onnx"
        report = how.to(subject.model, written)
        made = subject.returned(written) if report.output is not None else None
    return Folded(replace(report, model=subject.shown(report.model), output=None), lambda: made)


def _fold_network(subject: Subject, target: Path | None, how: _How) -> Folded[Any]:
    """A module or a program gives one; where a file is asked for, that is written as well."""
    from bnfold.jobs.fold_memory import fold_in_memory

    written = None if target is None else how.to(subject.model, target)
    if written is not None and written.output is None:
        return Folded(written, _planned_only)
    report, made = fold_in_memory(
        subject.model,
        subject.given,
        how.options,
        data=how.data,
        sampling=how.sampling,
        progress=how.progress,
    )
    return Folded(
        replace(report, output=None if written is None else written.output),
        lambda: None if made is None else made.result,
    )


def _fold_parts(model: Any, opening: Opening, how: _How, only: tuple[str, ...]) -> Folded[Any]:
    """The submodules that trace, where the whole does not."""
    from bnfold.formats.torch import Parts
    from bnfold.jobs.parts import fold_parts

    args, kwargs = opening.examples_for(model)
    parts = Parts.of(model, args, kwargs, only)
    report, network = fold_parts(
        parts, None, how.options, sampling=how.sampling, progress=how.progress
    )
    return Folded(report, lambda: network)


def _planned_only() -> Any:
    raise UsageError("nothing was asked to be written, so there is a plan alone; name a file")


def _second(
    model: Any, second: Any, output: AnyPath | None, example_inputs: Any
) -> tuple[AnyPath | None, Any]:
    """The file to write and the example inputs: what stands second is one of them."""
    if second is None:
        return output, example_inputs
    if isinstance(second, str | PathLike):
        if output is not None:
            raise UsageError("the file to write is given twice; give it once, as output=")
        return second, example_inputs
    if example_inputs is not None or not is_module(model):
        raise UsageError(
            "behind the model stands the file to write, or a module's example inputs as a tuple, "
            f"not {type(second).__name__}"
        )
    if not isinstance(second, tuple | list | Mapping):
        raise UsageError("give the example inputs as a tuple, one tensor as (x,)")
    return output, second
