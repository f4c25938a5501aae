"""Fold: plan, edit, prove, write — or say why not, and leave nothing behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnfold.data import Data, SampleOptions
from bnfold.errors import ModelNotLoadedError, RuntimeUnavailableError, UsageError
from bnfold.files import file_sha256, publish, scratch_folder
from bnfold.formats import Edited, Model, format_of
from bnfold.graph import Graph
from bnfold.jobs.common import (
    FORMAT_VERSION,
    UNDECIDED,
    ModelInfo,
    check_target,
    check_unchanged,
    comparison_inputs,
    left_behind,
    notes_of,
)
from bnfold.jobs.fold_options import FoldOptions, none_folds
from bnfold.jobs.network_change import NetworkChange
from bnfold.jobs.provenance import provenance_of
from bnfold.planning import Plan, Rest, make_plan
from bnfold.planning.left_standing import left_standing
from bnfold.progress import Progress, no_progress
from bnfold.proof.verification import Verification, prove


@dataclass(frozen=True)
class Output:
    """The file that was written. ``left``: data files that only the model before it used.

    ``size`` is in bytes, external data included.
    """

    path: str
    sha256: str
    key_map: dict[str, list[str]] | None = None
    left: tuple[str, ...] = ()
    size: int | None = None

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"path": self.path, "sha256": self.sha256}
        found |= {} if self.key_map is None else {"key_map": self.key_map}
        return found | ({"left": list(self.left)} if self.left else {})


@dataclass(frozen=True)
class FoldResult:
    """What `fold` did. ``output`` is None where nothing was written; ``refusal`` is why not, where
    it could have been. ``change`` is what became of the network as a whole, None where that was not
    one graph."""

    model: ModelInfo
    plan: Plan
    verification: Verification | None
    output: Output | None
    batch_norms_left: int
    nodes_before: int
    nodes_after: int
    refusal: str | None = None
    change: NetworkChange | None = field(default=None, repr=False, compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        notes = notes_of(self.plan, self.model.format)
        if self.plan.batch_norms and not self.plan.edits:
            notes = (*notes, "nothing folds: what is written is a copy of the original")
        return notes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What nobody should overlook."""
        found = [none_folds(self.plan)]
        if self.verification is not None and not self.verification.decided:
            found.append(UNDECIDED)
        return tuple(sentence for sentence in found if sentence)

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for was done."""
        verified = self.verification is None or self.verification.passed
        return verified and self.refusal is None

    @property
    def summary(self) -> dict[str, int]:
        """Counts, which add up over several models."""
        return {
            "batch_norms": len(self.plan.batch_norms),
            "folded": self.plan.foldable,
            "kept": self.plan.kept,
            "frozen": self.plan.frozen,
            "affines": len(self.plan.affines),
        }

    def to_json(self) -> dict[str, Any]:
        counts = {
            "batch_norms_left": self.batch_norms_left,
            "nodes_before": self.nodes_before,
            "nodes_after": self.nodes_after,
        }
        return {
            "format_version": FORMAT_VERSION,
            "command": "fold",
            "model": self.model.to_json(),
            "decisions": [{"name": d.name, **d.to_json()} for d in self.plan.batch_norms],
            "affines": [{"name": d.name, **d.to_json()} for d in self.plan.affines],
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "verification": self.verification.to_json() if self.verification else None,
            "output": None if self.output is None else {**self.output.to_json(), **counts},
            "refusal": self.refusal,
            "predicted": counts,
            "summary": self.summary,
        }


def fold(
    model: Model,
    target: Path | None,
    *,
    data: Data | None = None,
    sampling: SampleOptions | None = None,
    options: FoldOptions | None = None,
    progress: Progress = no_progress,
) -> FoldResult:
    """Folds every BatchNorm of ``model`` that can go exactly and writes the outcome to ``target``.

    Args:
        model: an opened model.
        target: the file to write; None plans only.
        data: a sample to verify on; None makes inputs from the signature.
        sampling: which rows of it to take; 64 at most by default.
        options: what is folded, and what has to be so that something is written.
        progress: called with the stage, and how much of how much is done.

    Raises:
        OutputError: where ``target`` must not or cannot be written.
        UsageError: where the result cannot be verified because no runtime executes the model.
        DataError: where ``data`` does not fit the model.
    """
    options = options or FoldOptions()
    if target is not None:
        check_target(target, model, data, force=options.force)
    progress("planning", 0, 1)
    plan = planned(model.graph, options)
    verdict = "verified" if options.verified else "not verified"
    noted = options.provenance and target is not None and bool(plan.edits)
    edited = format_of(model).edit(
        model,
        plan,
        keep_modules=options.keep_modules,
        provenance=provenance_of(model, verdict) if noted else None,
    )
    plan = edited.plan
    outcome = _Outcome(model, plan, edited)
    if target is None or options.refusal(plan) is not None:
        return outcome.result(refusal=options.refusal(plan))
    with scratch_folder(target) as scratch:
        progress("writing", 0, 1)
        files = edited.write(scratch / target.name)
        verification = None
        if options.verified:
            progress("reading back", 0, 1)
            verification = _proved(model, edited, plan, files[-1], data, sampling, progress)
        if verification is not None and not verification.passed:
            return outcome.result(verification)
        info, left = check_unchanged(model), left_behind(model, target, files)
        size = sum(file.stat().st_size for file in files)
        publish(files, target)
    written = Output(str(target), file_sha256(target), edited.key_map, left, size)
    return outcome.result(verification, written, info=info)


def planned(graph: Graph, options: FoldOptions) -> Plan:
    """The plan for what was asked for.

    Raises:
        UsageError: where ``only`` or ``skip`` names nothing, or the unchanged class would need other
            operators.
    """
    rest = options.rest
    if options.keep_modules and rest is not Rest.KEEP:
        raise UsageError(
            f"--rest {rest.value} puts other operators where the class has a BatchNorm; "
            "leave out --keep-modules"
        )
    with left_standing(graph, options.only, options.skip):
        return make_plan(
            graph, reparameterize=options.reparameterize, gauges=not options.keep_modules, rest=rest
        )


@dataclass(frozen=True)
class _Outcome:
    model: Model
    plan: Plan
    edited: Edited

    def result(
        self,
        verification: Verification | None = None,
        output: Output | None = None,
        *,
        refusal: str | None = None,
        info: ModelInfo | None = None,
    ) -> FoldResult:
        return FoldResult(
            info or ModelInfo.of(self.model),
            self.plan,
            verification,
            output,
            self.edited.batch_norm_count,
            self.model.node_count,
            self.edited.node_count,
            refusal,
            NetworkChange(self.model.graph, self.plan),
        )


def _proved(
    model: Model,
    edited: Edited,
    plan: Plan,
    written: Path,
    data: Data | None,
    sampling: SampleOptions | None,
    progress: Progress,
) -> Verification | None:
    """The proof; None for a copy of a model that the runtime does not load: it needs none."""
    subject = format_of(model).fold(edited, written)
    try:
        progress("reading the inputs" if data is not None else "making inputs", 0, 1)
        feeds, inputs = comparison_inputs(model, data, sampling)
        return prove(subject, model.graph, plan, feeds, inputs, progress)
    except ModelNotLoadedError as error:
        if not plan.edits:
            return None
        raise UsageError(
            f"the fold of {model.path} cannot be verified, because the runtime does not load it "
            f"({error}); write it unproven with --no-verify"
        ) from None
    except RuntimeUnavailableError as error:
        raise UsageError(
            f"the fold of {model.path} cannot be verified, because the model itself does not run "
            f"on inputs made from its signature ({error}); give inputs with --data, or write it unproven "
            "with --no-verify"
        ) from None
