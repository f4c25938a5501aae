"""``bnfold fold``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from bnfold.cli.applies import check_data_options, check_images, check_model_options
from bnfold.cli.destinations import Destinations
from bnfold.cli.model_options import ModelFlags
from bnfold.cli.models import expanded
from bnfold.cli.options import (
    TORCH_PANEL,
    ForceOption,
    InputData,
    ModelArguments,
    OnlyOption,
    OutputDirOption,
    OutputFlags,
    OutputOption,
    ProvenanceOption,
    ReparameterizeOption,
    RestForm,
    RestOption,
    SampleFlags,
    SkipOption,
)
from bnfold.cli.parsing import Option
from bnfold.cli.reporting import Report, finished, reported
from bnfold.errors import TracingError, UsageError

if TYPE_CHECKING:
    from bnfold.data import SampleOptions
    from bnfold.formats import Model
    from bnfold.jobs import FoldResult
    from bnfold.jobs.fold_options import FoldOptions


@dataclass(frozen=True)
class FoldFlags:
    """What is folded, and what has to be so that something is written."""

    verify: Annotated[
        bool, Option("--verify/--no-verify", help="Prove that the outputs are the same.")
    ] = True
    strict: Annotated[
        bool, Option("--strict", help="Write nothing where a BatchNorm has to stay; exit 1.")
    ] = False
    min_folded: Annotated[
        str | None,
        Option(
            metavar="N|N%",
            help="Write nothing where fewer BatchNorm fold than this; exit 1.",
        ),
    ] = None
    only: OnlyOption = None
    skip: SkipOption = None
    reparameterize: ReparameterizeOption = False
    provenance: ProvenanceOption = True
    keep_modules: Annotated[
        bool,
        Option(
            "--keep-modules",
            help="Write a state dict that loads into the unchanged class.",
            panel=TORCH_PANEL,
        ),
    ] = False
    rest: RestOption = RestForm.KEEP

    def options(self, *, force: bool) -> FoldOptions:
        """What the job wants.

        Raises:
            UsageError: where one of them makes no sense.
        """
        from bnfold.jobs.fold_options import FoldOptions, Minimum
        from bnfold.planning import Rest

        return FoldOptions(
            verified=self.verify,
            strict=self.strict,
            minimum=None if self.min_folded is None else Minimum.parse(self.min_folded),
            only=tuple(self.only or ()),
            skip=tuple(self.skip or ()),
            force=force,
            reparameterize=self.reparameterize,
            keep_modules=self.keep_modules,
            provenance=self.provenance,
            rest=Rest(self.rest.value),
        )


def fold(
    model: ModelArguments,
    *,
    output: OutputOption = None,
    output_dir: OutputDirOption = None,
    data: InputData = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan, write nothing.")] = False,
    how: FoldFlags,
    shown: OutputFlags,
    force: ForceOption = False,
    sample: SampleFlags,
    source: ModelFlags,
) -> int:
    """Fold every BatchNorm of MODEL that can go exactly, prove it, and write the result."""
    from bnfold.jobs.common import DEFAULT_SAMPLES

    check_data_options(data, sample)
    if source.submodule and not how.keep_modules:
        raise UsageError("--submodule writes a state dict of the whole network; add --keep-modules")
    options = how.options(force=force)
    names = expanded(model)
    targets = Destinations.of(names, output, output_dir, dry_run=dry_run)
    targets.check(shown.report, source, data=data, force=force)
    if data is not None and (dry_run or not how.verify) and not source.traces(names):
        option = "--dry-run" if dry_run else "--no-verify"
        raise UsageError(f"{option} compares nothing; leave out --data")
    sampling = sample.options(DEFAULT_SAMPLES)
    check_images(data, sampling)

    def work(name: str) -> tuple[FoldResult, int, str | None]:
        from bnfold.cli.progress import progress_bar
        from bnfold.jobs import fold as job
        from bnfold.jobs.parts import fold_parts

        check_model_options(name, source, keep_modules=how.keep_modules)
        targets.check_suffix(name)
        with progress_bar(quiet=shown.quiet) as progress, targets.of_model(name) as target:
            source.tell_opening(progress, name)
            opened = None if source.submodule else _whole(source, name, data, sampling, how)
            if opened is None:
                parts = source.open_parts(name, data, sampling)
                # Without a target there is a plan alone.
                asked = replace(options, verified=options.verified and target is not None)
                result = fold_parts(parts, target, asked, sampling=sampling, progress=progress)[0]
            else:
                result = job(
                    opened, target, data=data, sampling=sampling, options=options, progress=progress
                )
        return finished(result, targets, shown.report)

    report = Report(
        "fold",
        shown.format.value,
        verbose=shown.verbose,
        quiet=shown.quiet,
        several=len(names) > 1 or names != model,
        stream=targets.report_stream,
    )
    return reported(report, names, work)


def _whole(
    source: ModelFlags, model: str, data: str | None, sampling: SampleOptions, how: FoldFlags
) -> Model | None:
    """The model; None where it cannot be traced as a whole, and its parts will do."""
    try:
        return source.open(model, data, sampling)
    except TracingError:
        if not how.keep_modules:
            raise
        return None
