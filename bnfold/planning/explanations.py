"""Why a BatchNorm stays, in one sentence: what stands before it, what behind it, and what is around it."""

from __future__ import annotations

from bnfold.planning.decision import Refusal
from bnfold.planning.reasons import Reason, Refused

_SAYS_LITTLE = {Reason.NONLINEAR_PRODUCER, Reason.GRAPH_INPUT}
_SAYS_MORE = {
    Reason.NEGATIVE_SCALE,
    Reason.FAR_OFFSET,
    Reason.CONSTANT_CHANNELS,
    Reason.SCALE_RANGE,
    Reason.OVERFLOW,
    Reason.UNDERFLOW,
}
_STRUCTURAL = {
    Reason.NONLINEAR_PRODUCER,
    Reason.OPAQUE_PRODUCER,
    Reason.SHARED_VALUE,
    Reason.GRAPH_INPUT,
    Reason.GRAPH_OUTPUT,
    Reason.NONLINEAR_READER,
    Reason.OPAQUE_READER,
    Reason.READER_IS_OUTPUT,
    Reason.UNEQUAL_BRANCHES,
    Reason.PADDED_READER,
    Reason.SHIFT_AT_BORDERS,
    Reason.SHIFT_BLOCKED,
}


def explained(
    back: Refused,
    ahead: Refused,
    wider: Refused | None,
    *,
    goes_with_branches: bool,
    goes_with_sizes: bool,
    is_impossible: bool,
) -> Refusal:
    """The reason to name, and the sentence.

    Args:
        back: why it cannot go into what is before it.
        ahead: nor into what is behind it.
        wider: nor together with what is around it; None where that was not asked.
        goes_with_branches: whether it goes where parallel branches are merged.
        goes_with_sizes: whether it goes where no axis is free.
        is_impossible: whether no choice of gauges at all would free it.
    """
    if back.reason is ahead.reason and back.culprit == ahead.culprit:
        return Refusal(back.reason, back.culprit, str(back))
    first = ahead if back.reason in _SAYS_LITTLE else back
    message = f"{back}; and {ahead}"
    if goes_with_sizes:
        message = f"{message}; it goes in a model whose sizes are all fixed"
    if not {back.reason, ahead.reason} <= _STRUCTURAL:
        return Refusal(first.reason, first.culprit, message)
    if goes_with_branches:
        return Refusal(first.reason, first.culprit, f"{message}; it goes with --reparameterize")
    if is_impossible:
        message = f"no exact fold exists: {message}"
    named = wider is None or wider.culprit in (back.culprit, ahead.culprit)
    if wider is not None and (wider.reason in _SAYS_MORE or not named):
        message = f"{message}; changed together with what is around it: {wider}"
        first = wider if wider.reason in _SAYS_MORE else first
    return Refusal(first.reason, first.culprit, message)
