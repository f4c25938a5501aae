"""Recalibrating: what comes in comes out, in memory or as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from bnfold.api.calls import AnyData, AnyPath, names_of, sampled
from bnfold.api.models import TORCH, Opening, Subject, data_of, is_module
from bnfold.api.results import Recalibrated, told
from bnfold.errors import UsageError
from bnfold.progress import Progress, no_progress

if TYPE_CHECKING:
    from bnfold.data import Data, SampleOptions
    from bnfold.jobs.recalibration_result import RecalibrationOptions, RecalibrationResult

M = TypeVar("M")
"""The kind of model that was given, see `calls.AnyModel`."""


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
    submodule: str | Sequence[str] = (),
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
        submodule: measure these submodules alone, each on what reaches it in the whole behind those
            before it; for a module, or the name of a factory. ``output`` is a state dict of the whole.
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
    tell = progress or no_progress
    tell("opening", 0, 1)
    opening = Opening(example_inputs, kwargs, dynamic_shapes, source, chosen)
    options = RecalibrationOptions(
        method,
        prior,
        names_of(only),
        names_of(skip),
        variance,
        batch_size,
        cache_memory,
        max_drop,
        RuntimeOptions(threads, provider, device),
        force,
    )
    if submodule:
        if evaluate is not None:
            raise UsageError("evaluate= is for what is traced whole; measure result.model yourself")
        parts = opening.parts(model, names_of(submodule))
        found = _recalibrate_parts(parts, model, source, output, options, chosen, tell)
    else:
        subject = opening.subject(model)
        found = _recalibrate(subject, source, output, options, chosen, evaluate, tell)
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
    from bnfold.files import older_data, publish, scratch_folder
    from bnfold.jobs.common import check_target
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
        check_target(target, subject.model, source, force=options.force)
    with scratch_folder(target) as folder:
        name = f"recalibrated{_suffix(subject)}" if target is None else target.name
        report = run(folder / name, None)
        if report is None:
            return Recalibrated(None, lambda: None)
        made = _made(subject, folder / name) if report.ok else None
        if evaluate is not None and report.ok:
            report = _evaluated(report, subject.given, made, evaluate, options.max_drop)
        if target is not None and report.output is not None:
            others = older_data(folder / name)
            publish([*others, folder / name], target)
            report = replace(report, output=replace(report.output, path=str(target)))
    report = replace(report, model=subject.shown(report.model))
    return Recalibrated(report, lambda: made)


def _recalibrate_parts(
    parts: Any,
    model: Any,
    source: Data,
    output: AnyPath | None,
    options: RecalibrationOptions,
    sampling: SampleOptions,
    progress: Progress,
) -> Recalibrated[Any]:
    from bnfold.jobs.parts import recalibrate_parts

    target = None if output is None else Path(output)
    if target is None and not is_module(model):
        raise UsageError(f"name the file to write with output=; {model} is the name of a factory")
    report, network = recalibrate_parts(
        parts, target, source, options=options, sampling=sampling, progress=progress
    )
    return Recalibrated(report, lambda: network if is_module(model) else output)


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
    if not is_module(model):
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
    return ".pth" if is_module(subject.given) else ".pt2"
