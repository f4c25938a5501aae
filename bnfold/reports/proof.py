"""The proof of a fold in sentences, for every report in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bnfold.proof.channels import PieceComparison
from bnfold.proof.comparison import OutputComparison
from bnfold.proof.verification import Verification

# Values shown where two models part: before the first that differs, and from it on.
_BEFORE, _BEHIND = 2, 4
_METRICS = {
    "max": "largest error",
    "sqnr": "signal to noise in dB",
    "cosine": "cosine similarity",
    "class": "rows with the same class",
    "tolerance": "excess over the tolerance",
}


def proof_in_words(found: Verification, *, verbose: bool = False) -> Iterator[str]:
    """What was compared, how much of it could tell, and where the worst of it is. With ``verbose``
    every value that was compared where two models part."""
    if found.problem is not None:
        yield found.problem
    if (congruence := found.congruence) is not None:
        kept = congruence.tensors - congruence.changed_tensors
        sentence = (
            f"the written file: {_counted(congruence.calls, 'node')} and {_counted(kept, 'tensor')} "
            "as in the original"
        )
        changed = f", {_counted(congruence.changed_tensors, 'tensor')} as the plan computed them"
        yield sentence + (", a copy" if found.of_a_copy else changed)
        for difference in congruence.differences:
            yield f"the written file differs: {difference}"
    if pieces := found.pieces:
        yield _pieces(found)
    if pieces and (wrong := found.first_wrong) is not None:
        yield f"first wrong value: {wrong}"
    for output in found.outputs:
        for bound in output.bounds:
            sides = "at most" if bound.metric in ("max", "tolerance") else "at least"
            yield (
                f"{output.name}: {_METRICS[bound.metric]} {bound.value:.6g}, {sides} "
                f"{bound.threshold:g} asked for{'' if bound.passed else ': not kept'}"
            )
    if found.parting:
        yield from _parting(found.parting, verbose)
    silent = [o.name for o in found.outputs if not o.informs]
    if silent and found.congruence is not None and not found.of_a_copy:
        names = ", ".join(silent[:3]) + (", …" if len(silent) > 3 else "")
        yield (
            f"no difference could show in {names} (constant, saturated, blurred by rounding, not "
            "floating-point, or reached by no change)" + ("; the pieces decide" if pieces else "")
        )


def _parting(values: Sequence[PieceComparison], verbose: bool) -> Iterator[str]:
    first = next(i for i, value in enumerate(values) if not value.passed)
    around = slice(max(first - _BEFORE, 0), first + _BEHIND)
    shown = values if verbose else values[around]
    yield "the models part here, in the order of the reference:"
    for value in shown:
        where = f"{value.ratio:.3g} rounding floors in channel {value.channel}"
        error = f"error {value.error:.3g}, {where}"
        if value.error == float("inf"):
            error = "another shape, or not finite in the same places"
        yield f"  {value.name}: {error}, {'same' if value.passed else 'differs'}"
    if len(shown) < len(values):
        yield f"  … {len(values)} values have a name in both (-v lists all)"


def verdict_on(output: OutputComparison) -> str:
    """One output in a word or three."""
    if not output.passed:
        return "differs"
    return "same" if output.informs else "does not inform"


def _pieces(found: Verification) -> str:
    assert found.pieces is not None
    blind = sum(not p.informs for p in found.pieces)
    worst = found.worst_piece
    assert worst is not None
    where = f"{worst.name}, channel {worst.channel}"
    sentence = (
        f"{_counted(len(found.pieces), 'changed piece')} compared alone, channel by channel: "
        f"at most {worst.ratio:.2g} of 8 rounding floors ({where})"
    )
    return sentence + (f"; {blind} of them could not tell" if blind else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
