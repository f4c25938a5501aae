"""Folding and recalibrating: what comes in comes out, in memory or as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from bnfold.api.calls import AnyData, AnyPath, Progress, sampled
from bnfold.api.models import TORCH, Opening, Subject, data_of
from bnfold.api.results import Folded, Recalibrated, told
from bnfold.errors import ModelError, UsageError

if TYPE_CHECKING:
    from bnfold.data import Data, SampleOptions
    from bnfold.formats import Model
    from bnfold.jobs import FoldResult
    from bnfold.jobs.recalibration_result import RecalibrationOptions, RecalibrationResult

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

    output, example_inputs = _second(model, second, output, example_inputs)
    source = data_of(data)
    chosen = sampled(sampling, samples, DEFAULT_SAMPLES)
    tell = progress or _silent
    tell("opening", 0, 1)
    in_memory = output is None and not isinstance(model, str | PathLike)
    free = "auto" if dynamic_shapes is None and in_memory and _is_module(model) else dynamic_shapes
    opening = Opening(example_inputs, kwargs, free, source, chosen)
    how = _How(source, chosen, verify, strict, reparameterize, keep_modules, force)
    by_parts = in_memory and keep_modules and _is_module(model)
    if submodule and not by_parts:
        raise UsageError("submodule= goes with a module in memory and keep_modules=True")
    found = _fold_parts(model, opening, how, _globs(submodule)) if submodule else None
    if found is None:
        try:
            subject = opening.subject(model)
        except ModelError:
            if not by_parts:
                raise
            found = _fold_parts(model, opening, how, ())
        else:
            tell("folding", 0, 1)
            found = _fold(subject, None if output is None else Path(output), how)
    tell("done", 1, 1)
    return cast("Folded[M]", told(found))


class _How:
    """How to fold, for the job and for what is in memory."""

    def __init__(
        self,
        data: Data | None,
        sampling: SampleOptions,
        verify: bool,
        strict: bool,
        reparameterize: bool,
        keep_modules: bool,
        force: bool,
    ) -> None:
        self.data, self.sampling = data, sampling
        self.verify, self.strict, self.force = verify, strict, force
        self.reparameterize, self.keep_modules = reparameterize, keep_modules

    def to(self, model: Model, target: Path | None) -> FoldResult:
        from bnfold.jobs import fold as job

        return job(
            model,
            target,
            data=self.data,
            sampling=self.sampling,
            verified=self.verify,
            strict=self.strict,
            force=self.force,
            reparameterize=self.reparameterize,
            keep_modules=self.keep_modules,
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
    from bnfold.jobs.common import scratch_folder

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
    report, network = fold_in_memory(
        subject.model,
        subject.given,
        data=how.data,
        sampling=how.sampling,
        verified=how.verify,
        strict=how.strict,
        reparameterize=how.reparameterize,
        keep_modules=how.keep_modules,
    )
    return Folded(
        replace(report, output=None if written is None else written.output), lambda: network
    )


def _fold_parts(model: Any, opening: Opening, how: _How, only: tuple[str, ...]) -> Folded[Any]:
    """The submodules that trace, where the whole does not."""
    from bnfold.formats.torch import Parts
    from bnfold.jobs.fold_memory import fold_parts

    args, kwargs = opening.examples_for(model)
    report, network = fold_parts(
        Parts.of(model, args, kwargs, only),
        sampling=how.sampling,
        verified=how.verify,
        strict=how.strict,
        reparameterize=how.reparameterize,
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
    if example_inputs is not None or not _is_module(model):
        raise UsageError(
            "behind the model stands the file to write, or a module's example inputs as a tuple, "
            f"not {type(second).__name__}"
        )
    if not isinstance(second, tuple | list | Mapping):
        raise UsageError("give the example inputs as a tuple, one tensor as (x,)")
    return output, second


def _is_module(model: Any) -> bool:
    from bnfold.api.models import is_torch

    return is_torch(model) and hasattr(model, "forward")


def _silent(stage: str, done: int, total: int) -> None:
    """The default: nobody watches."""


def recalibrate(
    model: M,
    data: AnyData,
    output: AnyPath | None = None,
    *,
    example_inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    method: Literal["population", "batch"] = "population",
    prior: float = 0.0,
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    variance: Literal["biased", "unbiased"] | None = None,
    samples: int | None = None,
    batch_size: int = 32,
    mask: str | Sequence[str] = (),
    padding: str | Sequence[str] = (),
    sampling: SampleOptions | None = None,
    evaluate: Callable[[Any], float] | None = None,
    max_drop: float = 0.0,
    cache_memory: int | None = None,
    device: str = "cpu",
    provider: str = "CPUExecutionProvider",
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Recalibrated[M]:
    """Measures the population statistics of every BatchNorm again on ``data``.

    Args:
        model: a path, a factory, an ``onnx.ModelProto`` or its bytes, a module, an
            ``ExportedProgram``, or what `load` returned. It is never changed.
        data: a path, an array, a dict of arrays, or an iterable of batches (a DataLoader): inputs
            of the deployed model. A module is traced on the first of them.
        output: the file to write; a model in memory needs none.
        example_inputs: what a module is traced on instead.
        kwargs: further example inputs by name.
        dynamic_shapes: which of their axes are free, see `load`.
        method: ``population`` is exact; ``batch`` averages over mini-batches.
        prior: how many samples the old statistics are worth.
        only: globs on names of layers.
        skip: globs on names of layers that keep their statistics.
        variance: which one to store; the format's own convention by default.
        samples: how many samples of ``data`` to take, 2048 by default.
        batch_size: samples in one run.
        mask: arrays of ``data``: frames where they are 0 do not count.
        padding: the opposite: frames where they are not 0 do not count.
        sampling: which samples, and how to read images.
        evaluate: a measure, higher is better, called with the model before and after: with paths
            for a file, with models of the kind that was given for one in memory.
        max_drop: by how much it may fall.
        cache_memory: bytes for activations between levels; a quarter of what is free by default.
        device: torch's device.
        provider: onnxruntime's execution provider.
        threads: of the runtime.
        force: allow ``output`` to be the model's own file.
        progress: called with the stage, and how much of how much is done.

    Returns:
        A result whose ``model`` is of the kind that was given: of a path, the path that was written.

    Raises:
        errors.BnfoldError: one of its kinds; nothing is written then.
    """
    from bnfold.jobs.recalibration_result import DEFAULT_SAMPLES, RecalibrationOptions
    from bnfold.recalibration.observer import RuntimeOptions

    source = data_of(data)
    assert source is not None
    chosen = sampled(sampling, samples, DEFAULT_SAMPLES, mask, padding)
    subject = Opening(example_inputs, kwargs, dynamic_shapes, source, chosen).subject(model)
    options = RecalibrationOptions(
        method,
        prior,
        _globs(only),
        _globs(skip),
        variance,
        batch_size,
        cache_memory,
        max_drop,
        RuntimeOptions(threads, provider, device),
        force,
    )
    found = _recalibrate(subject, source, output, options, chosen, evaluate, progress or _silent)
    return cast("Recalibrated[M]", told(found))


def _recalibrate(
    subject: Subject,
    source: Data,
    output: AnyPath | None,
    options: RecalibrationOptions,
    sampling: SampleOptions,
    evaluate: Callable[[Any], float] | None,
    progress: Progress,
) -> Recalibrated[Any]:
    from bnfold.jobs.common import check_target, publish, scratch_folder
    from bnfold.jobs.recalibrate import recalibrate as job

    def run(target: Path, measure: Callable[[Path], float] | None) -> RecalibrationResult | None:
        return job(
            subject.model,
            target,
            source,
            options=options,
            sampling=sampling,
            evaluate=measure,
            progress=progress,
        )

    target = None if output is None else Path(output)
    if not subject.in_memory:
        if target is None:
            raise UsageError(f"name the file to write with output=; {subject.model.path} is a file")
        report = run(target, evaluate)
        return Recalibrated(report, lambda: subject.returned(target))
    if target is not None:
        check_target(target, subject.model.path, force=options.force)
    with scratch_folder(target) as folder:
        name = f"recalibrated{_suffix(subject)}" if target is None else target.name
        report = run(folder / name, None)
        if report is None:
            return Recalibrated(None, lambda: None)
        made = _made(subject, folder / name) if report.ok else None
        if evaluate is not None and report.ok:
            report = _evaluated(report, subject.given, made, evaluate, options.max_drop)
        if target is not None and report.output is not None:
            others = sorted(set(folder.iterdir()) - {folder / name})
            publish([*others, folder / name], target)
            report = replace(report, output=replace(report.output, path=str(target)))
    report = replace(report, model=subject.shown(report.model))
    return Recalibrated(report, lambda: made)


def _evaluated(
    report: RecalibrationResult,
    before: Any,
    after: Any,
    evaluate: Callable[[Any], float],
    max_drop: float,
) -> RecalibrationResult:
    """``report`` with the user's own measure of both models; refused where that fell."""
    from bnfold.jobs.recalibration_result import Evaluation

    scores = [float(evaluate(_in_eval_mode(model))) for model in (before, after)]
    evaluation = Evaluation(scores[0], scores[1], max_drop)
    output = report.output if evaluation.passed else None
    return replace(report, evaluation=evaluation, output=output)


def _in_eval_mode(model: Any) -> Any:
    """A copy of a module for the user's function, which may do with it what it likes."""
    if not _is_module(model):
        return model
    from bnfold.formats.torch import copied

    return copied(model).eval()


def _made(subject: Subject, written: Path) -> Any:
    if subject.kind != TORCH:
        return subject.returned(written)
    from bnfold.formats.torch import with_statistics_of

    return with_statistics_of(subject.given, written)


def _suffix(subject: Subject) -> str:
    if subject.kind != TORCH:
        return ".onnx"
    return ".pth" if _is_module(subject.given) else ".pt2"


def _globs(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
