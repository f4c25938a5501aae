"""Recalibrate: measure the statistics anew, check them, write — or say why not, and leave nothing."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from bnfold.data import Data, Sample, SampleOptions, open_sample
from bnfold.errors import DataError, RuntimeUnavailableError, UsageError
from bnfold.files import file_sha256, publish, scratch_folder
from bnfold.formats import Model, format_of
from bnfold.jobs.common import ModelInfo, check_target, check_unchanged, left_behind
from bnfold.jobs.fold import Output
from bnfold.jobs.provenance import provenance_of
from bnfold.jobs.recalibration_result import (
    DEFAULT_SAMPLES,
    Cost,
    Evaluation,
    RecalibrationOptions,
    RecalibrationResult,
)
from bnfold.progress import Progress, no_progress
from bnfold.recalibration.batch import batch_statistics
from bnfold.recalibration.batches import Batches
from bnfold.recalibration.cache import ActivationCache
from bnfold.recalibration.levels import plan_levels
from bnfold.recalibration.new_statistics import NewStatistics
from bnfold.recalibration.observer import Convention, Observer
from bnfold.recalibration.output_change import OutputChange, OutputChanges, output_names
from bnfold.recalibration.population import population_statistics
from bnfold.recalibration.processes import Processes, launched_processes
from bnfold.recalibration.run import Recalibration, Run
from bnfold.recalibration.selection import Selection, select
from bnfold.recalibration.self_check import SelfCheck, SubsetCheck, WholeCheck, proof_batch_size
from bnfold.recalibration.statistics_change import change_of

Evaluate = Callable[[Path], float]


def recalibrate(
    model: Model,
    target: Path,
    data: Data,
    *,
    options: RecalibrationOptions | None = None,
    sampling: SampleOptions | None = None,
    evaluate: Evaluate | None = None,
    progress: Progress = no_progress,
) -> RecalibrationResult | None:
    """Measures the population statistics of every BatchNorm on ``data`` and writes them.

    Under ``torchrun`` the processes share the data; all but the first return None.

    Args:
        model: an opened model; its file is not changed.
        target: the file to write.
        data: see `bnfold.data.open_sample`.
        options: how to measure.
        sampling: which rows of the data to take; 2048 at most by default.
        evaluate: a measure of a model file, higher is better; a fall writes nothing.
        progress: called with the stage, and how much of how much is done.

    Raises:
        DataError: where the data is missing, does not fit, is not finite or too small.
        OutputError: where ``target`` must not or cannot be written.
        RuntimeUnavailableError: where no runtime executes the model.
        UsageError: where there is nothing to recalibrate, or options make no sense.
    """
    options = options or RecalibrationOptions()
    _check_options(options)
    check_target(target, model, data, force=options.force)
    if evaluate is not None and not model.file.is_file():
        raise UsageError(
            f"--evaluate is called with files, and {model.path} has none; add --weights"
        )
    processes = launched_processes()
    try:
        with scratch_folder() as folder:
            observer = format_of(model).observer(model, folder, options.runtime)
            progress("planning", 0, 1)
            selection = select(observer, str(model.path), options.only, options.skip)
            progress("reading the data", 0, 1)
            sample = open_sample(
                data, model.inputs, sampling or SampleOptions(samples=DEFAULT_SAMPLES)
            )
            job = _Job(model, observer, selection, sample, options, processes, folder, progress)
            return job.write(job.measure(), target, evaluate)
    finally:
        processes.close()


@dataclass(eq=False)
class _Job:
    """The steps, and what they share."""

    model: Model
    observer: Observer
    selection: Selection
    sample: Sample
    options: RecalibrationOptions
    processes: Processes
    folder: Path
    progress: Progress

    def __post_init__(self) -> None:
        self.variance: Convention = self.options.variance or self.observer.convention
        # Algorithm 2 of the paper has m/(m - 1) in it.
        if self.options.method == "batch":
            self.variance = "unbiased"
        outputs = output_names(self.observer) if self.options.method == "population" else ()
        self.plan = plan_levels(
            self.observer.graph, self.selection.populations, self.observer.always, outputs
        )
        self.populations = self.plan.populations

    def measure(self) -> Recalibration:
        self.run = Run(
            self.observer,
            self.plan,
            Batches(self.sample, self.options.batch_size, self.observer.measure),
            self.processes,
            ActivationCache(self.folder, self.options.cache_memory),
            self.variance == "unbiased",
            self.options.prior,
            self.progress,
        )
        self.run.outputs = OutputChanges(self.observer, self.run.batches)
        method = {"population": population_statistics, "batch": batch_statistics}
        try:
            return method[self.options.method](self.run)
        except RuntimeUnavailableError as error:
            if self.run.batches.size == 1:
                raise
            raise RuntimeUnavailableError(
                f"{self.model.path} does not run on batches of {self.run.batches.size} ({error}); "
                "where it was made for another size, say so with --batch-size"
            ) from None

    def write(
        self, found: Recalibration, target: Path, evaluate: Evaluate | None
    ) -> RecalibrationResult | None:
        """Proves what was measured, all processes together; the first one publishes it."""
        edits = [
            NewStatistics(p.nodes[0], new.mean, new.variance, p.nodes[1:])
            for p in self.populations
            for new in [found.new[p.name]]
        ]
        first = self.processes.rank == 0
        with scratch_folder(target if first else None) as scratch:
            format = format_of(self.model)
            self.progress("writing", 0, 1)
            copy = format.with_statistics(self.model, edits, self._provenance())
            files = copy.write(scratch / target.name)
            check, outputs = self._prove(format.reopened(copy, files[-1]), found)
            if not first:
                return None
            evaluation = self._evaluate(evaluate, files[-1])
            output = None
            info = check_unchanged(self.model)
            if (check.agrees or not check.expected) and (evaluation is None or evaluation.passed):
                left = left_behind(self.model, target, files)
                size = sum(file.stat().st_size for file in files)
                publish(files, target)
                output = Output(str(target), file_sha256(target), left=left, size=size)
        return self._result(found, check, outputs, evaluation, output, info)

    def _provenance(self) -> Mapping[str, str] | None:
        if not self.options.provenance:
            return None
        checked = self.options.method == "population"
        return provenance_of(self.model, "statistics checked" if checked else "not checked")

    def _prove(
        self, written: Model, found: Recalibration
    ) -> tuple[SelfCheck, tuple[OutputChange, ...]]:
        options = self.options
        values = sum(found.measured[p.name].whole.count * p.norm.channels for p in self.populations)
        size = proof_batch_size(
            self.run.batches.size, values / self.sample.count, options.cache_memory
        )
        after = format_of(written).observer(written, self.folder, options.runtime)
        if options.method == "population":
            assert self.run.outputs is not None
            check = SubsetCheck(
                after,
                self.populations,
                self.run.batches,
                self.processes,
                self.progress,
                self.run.noted,
                found.new,
                rows=size,
            ).run()
            return check, self.run.outputs.results(self.processes)
        return WholeCheck(
            self.observer,
            after,
            self.populations,
            Batches(self.sample, size, self.observer.measure),
            self.processes,
            self.progress,
            options.prior,
            self.variance == "unbiased",
            expected=False,
        ).run()

    def _evaluate(self, evaluate: Evaluate | None, written: Path) -> Evaluation | None:
        if evaluate is None:
            return None
        before, after = _score(evaluate, self.model.file), _score(evaluate, written)
        return Evaluation(before, after, self.options.max_drop)

    def _result(
        self,
        found: Recalibration,
        check: SelfCheck,
        outputs: tuple[OutputChange, ...],
        evaluation: Evaluation | None,
        output: Output | None,
        info: ModelInfo,
    ) -> RecalibrationResult:
        cache = self.run.cache
        return RecalibrationResult(
            info,
            self.options.method,
            self.variance,
            self.options.prior,
            self.sample.name,
            self.sample.count,
            self.observer.runtime,
            Cost(
                self.plan.measured_levels,
                cache.peak_memory,
                cache.peak_disk,
                cache.not_kept,
            ),
            tuple(
                change_of(p, found.new[p.name], found.measured[p.name]) for p in self.populations
            ),
            self.selection.untouched,
            outputs,
            check,
            evaluation,
            output,
            (*self.model.notes, *map(_split_note, self.plan.split), *self.sample.notes),
        )


def _check_options(options: RecalibrationOptions) -> None:
    checks: Sequence[tuple[bool, str]] = (
        (options.method in ("population", "batch"), "the method is population or batch"),
        (
            math.isfinite(options.prior) and options.prior >= 0,
            "--prior is a number of samples >= 0",
        ),
        (options.batch_size > 0, "--batch-size is at least 1"),
        (options.variance in (None, "biased", "unbiased"), "the variance is biased or unbiased"),
        (
            options.method == "population" or options.variance != "biased",
            "--method batch has m/(m-1) in it (unbiased); --variance biased needs population",
        ),
        (options.method == "population" or not options.prior, "--prior needs --method population"),
    )
    for fine, sentence in checks:
        if not fine:
            raise UsageError(sentence)


def _score(evaluate: Evaluate, path: Path) -> float:
    try:
        with redirect_stdout(sys.stderr):  # stdout carries the report and nothing else
            score = float(evaluate(path))
    except Exception as error:  # whatever the user's function raises
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"the function given with --evaluate failed on {path.name}: {what}"
        ) from error
    if math.isnan(score):
        raise DataError("the function given with --evaluate returned NaN")
    return score


def _split_note(name: str) -> str:
    return (
        f"{name} is called on what it computed itself, so its calls share no one population; "
        "each call got its own statistics"
    )
