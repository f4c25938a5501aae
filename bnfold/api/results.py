"""What the calls of the Python interface return: the report of the command, and the model itself."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bnfold.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from bnfold.audit import Finding
    from bnfold.jobs import FoldResult, Inspection, NormReport, VerifyResult
    from bnfold.jobs.fold import Output
    from bnfold.jobs.recalibration_result import Evaluation, RecalibrationResult
    from bnfold.planning import Plan
    from bnfold.proof.verification import Verification
    from bnfold.recalibration.output_change import OutputChange
    from bnfold.recalibration.self_check import SelfCheck
    from bnfold.recalibration.statistics_change import NormChange

M = TypeVar("M")
_LOG = logging.getLogger("bnfold")


class Result:
    """What all results have. ``report`` is what the command of the same name prints."""

    report: Any

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for was done."""
        return bool(self.report.ok)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know beside the decisions, in plain words."""
        return tuple(self.report.notes)

    def to_json(self) -> dict[str, Any]:
        """The document that the command prints with ``--format json``."""
        found: dict[str, Any] = self.report.to_json()
        return found

    def _facts(self) -> str:
        """What the short form says."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._facts()}>"

    def _repr_html_(self) -> str:
        """The text report of the command, for notebooks."""
        from bnfold.reports.text import rendered

        return f"<pre>{html.escape(rendered(self.report))}</pre>"


class Inspected(Result):
    """What `bnfold.inspect` found."""

    report: Inspection

    def __init__(self, report: Inspection, model: Any) -> None:
        self.report, self.model = report, model

    @property
    def ok(self) -> bool:
        """Whether there is no finding of the severity error."""
        return not any(finding.severity.value == "error" for finding in self.findings)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.report.findings

    @property
    def batch_norms(self) -> tuple[NormReport, ...]:
        return self.report.batch_norms

    @property
    def plan(self) -> Plan:
        """What `bnfold.fold` would do."""
        return self.report.plan

    def _facts(self) -> str:
        return (
            f"{self.report.model.label}: {len(self.batch_norms)} BatchNorm, "
            f"{self.plan.foldable} fold, {len(self.findings)} findings"
        )


class Folded(Result, Generic[M]):
    """What `bnfold.fold` did."""

    report: FoldResult

    def __init__(self, report: FoldResult, model: Callable[[], M]) -> None:
        self.report, self._made = report, model
        self._model: M | None = None

    @property
    def model(self) -> M:
        """The folded model, of the kind that was given; of a path, the path that was written.

        Raises:
            VerificationError: where it would compute something else.
            UsageError: where ``strict`` or ``min_folded`` refused it, or no file was asked for.
        """
        if self.report.refusal is not None:
            raise UsageError(f"no model was made: {self.report.refusal}")
        if not self.ok:
            raise VerificationError(self._difference())
        if self._model is None:
            self._model = self._made()
        return self._model

    def _difference(self) -> str:
        found = self.verification
        if found is not None and found.problem is not None:
            return found.problem
        first = None if found is None else found.first_wrong
        where = "" if first is None else f"; first at {first}"
        return f"the folded network differs from the original{where}"

    @property
    def plan(self) -> Plan:
        return self.report.plan

    @property
    def verification(self) -> Verification | None:
        return self.report.verification

    @property
    def output(self) -> Output | None:
        """The file that was written."""
        return self.report.output

    @property
    def batch_norms_left(self) -> int:
        return self.report.batch_norms_left

    @property
    def refusal(self) -> str | None:
        """Why no model was made although one could be: ``strict``, say."""
        return self.report.refusal

    def _facts(self) -> str:
        plan, proved = self.plan, self.verification
        verdict = "not verified" if proved is None else "verified" if proved.passed else "DIFFERS"
        rest = f"{plan.lowered} lowered, {plan.kept} stay" if plan.lowered else f"{plan.kept} stay"
        return f"{self.report.model.label}: {plan.foldable} fold, {rest}, {verdict}"


class Verified(Result):
    """What `bnfold.verify` found."""

    report: VerifyResult

    def __init__(self, report: VerifyResult) -> None:
        self.report = report

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    @property
    def verification(self) -> Verification:
        return self.report.verification

    def _facts(self) -> str:
        verdict = "same" if self.ok else "DIFFERENT"
        return f"{self.report.reference.label}, {self.report.candidate.label}: {verdict}"


class Recalibrated(Result, Generic[M]):
    """What `bnfold.recalibrate` did.

    Of several processes that share the work, the first one holds the outcome; elsewhere ``report``
    is None.
    """

    report: RecalibrationResult | None

    def __init__(self, report: RecalibrationResult | None, model: Callable[[], M]) -> None:
        self.report, self._made = report, model
        self._model: M | None = None

    @property
    def _own(self) -> RecalibrationResult:
        if self.report is None:
            raise UsageError("of several processes the first one holds the result: rank 0")
        return self.report

    @property
    def ok(self) -> bool:
        return self.report is None or self.report.ok

    @property
    def notes(self) -> tuple[str, ...]:
        return () if self.report is None else self.report.notes

    @property
    def model(self) -> M:
        """The model with the new statistics, of the kind that was given; of a path, the path written.

        Raises:
            VerificationError: where nothing was written, with the reason.
        """
        if self._own.refusal is not None:
            raise VerificationError(f"nothing was recalibrated: {self._own.refusal}")
        if self._model is None:
            self._model = self._made()
        return self._model

    @property
    def batch_norms(self) -> tuple[NormChange, ...]:
        """How each layer's statistics changed."""
        return self._own.batch_norms

    @property
    def outputs(self) -> tuple[OutputChange, ...]:
        """How far the model's outputs moved."""
        return self._own.outputs

    @property
    def check(self) -> SelfCheck:
        return self._own.check

    @property
    def evaluation(self) -> Evaluation | None:
        return self._own.evaluation

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._own.warnings

    @property
    def remarks(self) -> tuple[str, ...]:
        return self._own.remarks

    @property
    def output(self) -> Output | None:
        return self._own.output

    def to_json(self) -> dict[str, Any]:
        return self._own.to_json()

    def _facts(self) -> str:
        if self.report is None:
            return "of another process"
        verdict = "done" if self.ok else f"refused: {self.report.refusal}"
        count = len(self.report.batch_norms)
        return f"{self.report.model.label}: {count} BatchNorm, {self.report.samples} samples, {verdict}"


def told(result: Any) -> Any:
    """``result``, its notes handed to the log."""
    _LOG.info("%r", result)
    for note in result.notes:
        _LOG.info("%s", note)
    return result
