"""``bnfold recalibrate``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

from bnfold.cli.applies import check_data_options, check_images, check_model_options
from bnfold.cli.destinations import Destinations
from bnfold.cli.model_options import MaskFlags, ModelFlags
from bnfold.cli.models import expanded
from bnfold.cli.options import (
    DATA_KINDS,
    ForceOption,
    ModelArguments,
    OnlyOption,
    OutputDirOption,
    OutputFlags,
    OutputOption,
    ProvenanceOption,
    RuntimeFlags,
    SampleFlags,
    SkipOption,
)
from bnfold.cli.parsing import Option
from bnfold.cli.reporting import Report, finished, reported
from bnfold.errors import UsageError

if TYPE_CHECKING:
    from bnfold.jobs.recalibrate import Evaluate
    from bnfold.jobs.recalibration_result import RecalibrationOptions, RecalibrationResult


class Method(str, Enum):
    """How statistics are estimated."""

    POPULATION = "population"
    BATCH = "batch"


class Variance(str, Enum):
    """Which variance is stored."""

    BIASED = "biased"
    UNBIASED = "unbiased"


_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_METHOD = "Method"


@dataclass(frozen=True)
class MethodFlags:
    """How statistics are measured, and of which layers."""

    method: Annotated[
        Method,
        Option(
            help="population: what the deployed network observes, exact. "
            "batch: averages over mini-batches (Ioffe & Szegedy, Algorithm 2).",
            panel=_METHOD,
        ),
    ] = Method.POPULATION
    prior: Annotated[
        float,
        Option(help="How many samples the old statistics are worth.", min=0, panel=_METHOD),
    ] = 0.0
    only: OnlyOption = None
    skip: SkipOption = None
    variance: Annotated[
        Variance | None,
        Option(
            help="Which variance to store.",
            default="the format's own convention",
            panel=_METHOD,
        ),
    ] = None
    batch_size: Annotated[
        int,
        Option(
            help="Samples per run; a fixed batch in the file overrules it.",
            min=1,
            panel=_METHOD,
        ),
    ] = 32
    cache_memory: Annotated[
        str | None,
        Option(
            metavar="BYTES",
            help="Memory for activations between levels (512M, 4G); then disk, then computed again.",
            default="a quarter of what is free",
            panel=_METHOD,
        ),
    ] = None

    def options(self, **others: Any) -> RecalibrationOptions:
        """What the job wants; ``others`` are its options that are not here.

        Raises:
            UsageError: where ``cache_memory`` is no number of bytes.
        """
        from bnfold.jobs.recalibration_result import RecalibrationOptions

        return RecalibrationOptions(
            method=self.method.value,
            prior=self.prior,
            only=tuple(self.only or ()),
            skip=tuple(self.skip or ()),
            variance=self.variance.value if self.variance else None,
            batch_size=self.batch_size,
            cache_memory=_bytes(self.cache_memory),
            **others,
        )


@dataclass(frozen=True)
class EvaluationFlags:
    """The user's own measure of a model."""

    evaluate: Annotated[
        str | None,
        Option(
            metavar="FILE.PY:FUNCTION",
            help="Called with the path of the model (of --weights for a factory) and of what will "
            "be written; returns a number, higher is better. Nothing is written where it falls.",
            panel="Evaluation",
        ),
    ] = None
    max_drop: Annotated[
        float | None,
        Option(help="By how much the evaluation may fall.", min=0, panel="Evaluation", default="0"),
    ] = None

    def function(self) -> Evaluate | None:
        """The function that ``evaluate`` names.

        Raises:
            UsageError: where there is none.
        """
        if self.evaluate is None:
            if self.max_drop is not None:
                raise UsageError("--max-drop goes with --evaluate, which is not given")
            return None
        from bnfold.data.callables import load_callable

        found: Evaluate = load_callable(self.evaluate)
        return found


def recalibrate(
    model: ModelArguments,
    data: Annotated[
        str,
        Option(
            "--data",
            metavar="SOURCE",
            help=f"A sample of the deployed model's inputs: {DATA_KINDS}.",
        ),
    ],
    *,
    output: OutputOption = None,
    output_dir: OutputDirOption = None,
    force: ForceOption = False,
    provenance: ProvenanceOption = True,
    shown: OutputFlags,
    how: MethodFlags,
    score: EvaluationFlags,
    sample: SampleFlags,
    masks: MaskFlags,
    source: ModelFlags,
    runtime: RuntimeFlags,
) -> int:
    """Measure the BatchNorm statistics of MODEL again on a data sample and write them."""
    from bnfold.jobs.recalibration_result import DEFAULT_SAMPLES

    check_data_options(data, sample)
    names = expanded(model)
    targets = Destinations.of(names, output, output_dir)
    targets.check(shown.report, source, data=data, force=force)
    sampling = masks.on(sample.options(DEFAULT_SAMPLES))
    check_images(data, sampling)
    drop = score.max_drop or 0.0
    options = how.options(
        max_drop=drop, runtime=runtime.options(), force=force, provenance=provenance
    )
    evaluate = score.function()
    if source.submodule and evaluate is not None:
        raise UsageError("--evaluate is for what is traced whole; leave out --submodule")

    def work(name: str) -> tuple[RecalibrationResult, int, str | None] | None:
        from bnfold.cli.progress import progress_bar
        from bnfold.formats import is_onnx
        from bnfold.jobs.parts import recalibrate_parts
        from bnfold.jobs.recalibrate import recalibrate as job

        check_model_options(name, source, runtime)
        targets.check_suffix(name)
        if targets.to_stdout and not is_onnx(name):
            raise UsageError("-o - is for ONNX models; name a file with -o for one of PyTorch")
        with progress_bar(quiet=shown.quiet) as progress, targets.of_model(name) as target:
            assert target is not None  # nothing here is a dry run
            source.tell_opening(progress, name)
            result: RecalibrationResult | None
            if source.submodule:
                parts = source.open_parts(name, data, sampling)
                result = recalibrate_parts(
                    parts, target, data, options=options, sampling=sampling, progress=progress
                )[0]
            else:
                result = job(
                    source.open(name, data, sampling),
                    target,
                    data,
                    options=options,
                    sampling=sampling,
                    evaluate=evaluate,
                    progress=progress,
                )
        if result is None:  # the first of several processes speaks for all
            return None
        return finished(result, targets, shown.report)

    report = Report(
        "recalibrate",
        shown.format.value,
        verbose=shown.verbose,
        quiet=shown.quiet,
        several=len(names) > 1 or names != model,
        stream=targets.report_stream,
    )
    return reported(report, names, work)


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise UsageError(f"--cache-memory is a number of bytes such as 512M or 4G, not {text}")
    return int(float(found[1]) * 2 ** _UNITS[found[2].upper()])
