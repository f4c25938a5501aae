"""``bnfold inspect``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bnfold.cli.applies import check_data_options, check_images, check_model_options
from bnfold.cli.destinations import check_paths
from bnfold.cli.model_options import MaskFlags, ModelFlags
from bnfold.cli.models import expanded
from bnfold.cli.options import (
    DATA_KINDS,
    ModelArguments,
    QuietOption,
    ReparameterizeOption,
    ReportOption,
    RuntimeFlags,
    SampleFlags,
    VerboseOption,
)
from bnfold.cli.parsing import Option
from bnfold.cli.reporting import Report, reported, write_page
from bnfold.errors import UsageError

if TYPE_CHECKING:
    from bnfold.audit import Settings
    from bnfold.jobs import Inspection


class Format(str, Enum):
    """How the findings are printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"
    MARKDOWN = "markdown"


class FailOnChoice(str, Enum):
    """From which severity on the exit code is 1."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"


Codes = list[str] | None
_RULES = "Rules"


@dataclass(frozen=True)
class RuleFlags:
    """Which findings count."""

    select: Annotated[
        Codes,
        Option(
            metavar="CODES",
            help="Rules to run: codes or their beginnings, as BN1,BN203.",
            panel=_RULES,
        ),
    ] = None
    ignore: Annotated[Codes, Option(metavar="CODES", help="Rules to leave out.", panel=_RULES)] = (
        None
    )
    fail_on: Annotated[
        FailOnChoice | None,
        Option(help="Exit with 1 on findings this bad.", default="error", panel=_RULES),
    ] = None
    config: Annotated[
        Path | None,
        Option(
            help="The settings file.",
            default="the nearest bnfold.toml, or pyproject.toml with [tool.bnfold]",
            panel=_RULES,
        ),
    ] = None
    isolated: Annotated[
        bool, Option("--isolated", help="Without any settings file.", panel=_RULES)
    ] = False
    baseline: Annotated[
        Path | None,
        Option(
            metavar="FINDINGS.json",
            help="Report only what is new since `inspect --format json` wrote this file.",
            panel=_RULES,
        ),
    ] = None

    def settings(self) -> Settings:
        """What the file and these options say together.

        Raises:
            UsageError: where one of them makes no sense.
        """
        from bnfold.audit import FailOn, Settings, load_settings

        if self.config is not None and self.isolated:
            raise UsageError("--isolated leaves all settings files out; leave out --config")
        found = Settings() if self.isolated else load_settings(file=self.config)
        fail_on = FailOn(self.fail_on.value) if self.fail_on else None
        return found.overridden(self.select, self.ignore, fail_on)


def inspect(
    model: ModelArguments,
    *,
    data: Annotated[
        str | None,
        Option(
            help=f"A sample to compare the stored statistics with (rules BN4): {DATA_KINDS}.",
            metavar="SOURCE",
        ),
    ] = None,
    against: Annotated[
        str | None,
        Option(metavar="OTHER", help="Another model, whose statistics stand beside MODEL's."),
    ] = None,
    reparameterize: ReparameterizeOption = False,
    format: Annotated[
        Format, Option("--format", "-f", help="How the report on stdout is printed.")
    ] = Format.TEXT,
    report: ReportOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    rules: RuleFlags,
    sample: SampleFlags,
    masks: MaskFlags,
    source: ModelFlags,
    runtime: RuntimeFlags,
) -> int:
    """Report every BatchNorm of MODEL: its statistics, what is wrong, and what can become of it."""
    from bnfold.audit.baseline import Baseline
    from bnfold.jobs.inspect import DEFAULT_SAMPLES

    check_data_options(data, sample, masks, runtime)
    if source.submodule and against is not None:
        raise UsageError("--against compares whole models; leave out --submodule")
    settings = rules.settings()
    baseline = None if rules.baseline is None else Baseline.read(rules.baseline)
    names = expanded(model)
    if report is not None and len(names) > 1:
        raise UsageError("--report writes the page of one model; name one")
    sampling = masks.on(sample.options(DEFAULT_SAMPLES))
    check_paths(report, names if against is None else [*names, against], source, data=data)
    check_images(data, sampling)

    def work(name: str) -> tuple[Inspection, int, str | None]:
        from bnfold.cli.progress import progress_bar
        from bnfold.jobs import inspect as job
        from bnfold.jobs.inspect import without_known
        from bnfold.jobs.parts import inspect_parts

        check_model_options(name, source, runtime)
        with progress_bar(quiet=quiet) as progress:
            source.tell_opening(progress, name)
            how: dict[str, Any] = {
                "reparameterize": reparameterize,
                "selection": settings.selection,
                "data": data,
                "sampling": sampling,
                "runtime": runtime.options(),
                "progress": progress,
            }
            if source.submodule:
                result = inspect_parts(source.open_parts(name, data, sampling), **how)
            else:
                opened = source.open(name, data, sampling)
                other = None if against is None else source.open_other(against)
                result = job(opened, other=other, **how)
        if baseline is not None:
            result = without_known(result, baseline)
        write_page(result, report)
        code = int(settings.fail_on.concerns(result.findings))
        return result, code, None if report is None else str(report)

    shown = Report(
        "inspect",
        format.value,
        verbose=verbose,
        quiet=quiet,
        several=len(names) > 1 or names != model,
        configuration=settings.to_json(),
    )
    return reported(shown, names, work)
