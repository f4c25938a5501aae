"""Every situation gets the decisions that its table says, with reasons that a user can act on."""

from __future__ import annotations

import pytest

import bnfold
from bnfold.planning import Action, Decision, Reason
from situations import SITUATIONS
from situations.build import Expected, Situation
from situations.fold import Folder

by_name = pytest.mark.parametrize("situation", SITUATIONS, ids=str)


def _summary(decision: Decision) -> Expected:
    return Expected(
        decision.action.value,
        decision.direction.value if decision.direction else None,
        decision.into,
        decision.reason.reason.code if decision.reason else None,
        decision.reason.culprit if decision.reason else None,
    )


def _matches(found: Expected, expected: Expected) -> bool:
    """Whether they agree; of a culprit the table gives the part that matters."""
    short = found.culprit if expected.culprit is None else expected.culprit
    named = expected.culprit is None or expected.culprit in (found.culprit or "")
    wanted = Expected(expected.action, expected.direction, expected.into, expected.reason, short)
    return named and wanted == Expected(
        found.action, found.direction, found.into, found.reason, short
    )


@by_name
def test_norms(situation: Situation, folder: Folder) -> None:
    found = {d.name: _summary(d) for d in folder.situation(situation).result.plan.batch_norms}
    assert found.keys() == situation.norms.keys()
    for name, expected in situation.norms.items():
        assert _matches(found[name], expected), (name, found[name], expected)


@by_name
def test_affines(situation: Situation, folder: Folder) -> None:
    found = {d.name: _summary(d) for d in folder.situation(situation).result.plan.affines}
    assert found == situation.affines


@by_name
def test_inspect_predicts_what_fold_does(situation: Situation, folder: Folder) -> None:
    folded = folder.situation(situation)
    model = bnfold.load(folded.source, freeze_initializers=situation.freeze)
    prediction, outcome = bnfold.inspect(model), folded.result
    assert prediction.plan.decisions == outcome.plan.decisions
    assert prediction.plan.kept == outcome.batch_norms_left
    assert [report.decision for report in prediction.batch_norms] == list(outcome.plan.batch_norms)


@by_name
def test_reasons_name_something(situation: Situation, folder: Folder) -> None:
    for decision in folder.situation(situation).result.plan.batch_norms:
        assert (decision.action is Action.KEEP) == (decision.reason is not None)
        if decision.reason is not None:
            message = decision.reason.message
            assert message
            assert "{" not in message
            assert (decision.reason.culprit or "") in message


def test_every_reason_has_a_situation() -> None:
    """What no situation shows is listed here, with why."""
    shown = {e.reason for s in SITUATIONS for e in s.norms.values() if e.reason}
    missing = {reason.code for reason in Reason} - shown
    assert missing <= NOT_SHOWN, missing - NOT_SHOWN


# Reasons that only the second half of a sentence gives, or that only a torch graph has.
NOT_SHOWN = {
    "across_regions",
    "captured_value",
    "graph_input",
    "narrow_type",
    "no_graph",
    "nonlinear_producer",
    "not_asked",
    "other_scale",
    "other_shift",
    "scale_range",
    "probe_failed",
    "shared_constant",
    "unchanged_class",
    "too_many_ways",
    "unequal_branches",
    "unknown_shape",
    "unread",
}
