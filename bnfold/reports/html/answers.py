"""The answer of each page: one sentence that says how it stands, before any picture."""

from __future__ import annotations

from bnfold.audit import in_words
from bnfold.jobs import FoldResult, Inspection, VerifyResult
from bnfold.jobs.recalibration_result import RecalibrationResult
from bnfold.proof.comparison import ALLOWED_RATIO


def of_inspection(result: Inspection) -> str:
    """What becomes of the BatchNorm, what is wrong, where the data lies off."""
    count = len(result.batch_norms)
    parts = [_fates(result, count)]
    concerned = {f.layer for f in result.findings if f.layer is not None}
    found = in_words(result.findings)
    parts.append(f"{found} in {counted(len(concerned), 'layer')}" if concerned else found)
    drifts = [(report.drift, i) for i, report in enumerate(result.batch_norms)]
    limits = result.thresholds
    adrift = [
        (d.mean_rms, i)
        for d, i in drifts
        if d and (d.mean_rms >= limits.mean_warning or d.variance_factor >= limits.variance_warning)
    ]
    if adrift:
        where = f"{counted(len(adrift), 'layer')}, from number {min(i for _, i in adrift) + 1} on"
        parts.append(f"the data lies off the stored statistics in {where}")
    elif any(d for d, _ in drifts):
        parts.append("the data is as the network expects it")
    return "; ".join(parts) + "."


def _fates(result: Inspection, count: int) -> str:
    if not count:
        return "There is no BatchNorm in this model"
    if result.undecided:
        what = "nobody can tell what becomes of them without the code of the network"
        return f"{counted(count, 'BatchNorm', '')}; {what}"
    kept = result.plan.kept
    if not kept:
        return "Its one BatchNorm can go" if count == 1 else f"All {count} BatchNorm can go"
    if kept == count:
        return "Its one BatchNorm stays" if count == 1 else f"All {count} BatchNorm stay"
    return (
        f"Of {count} BatchNorm {count - kept} can go and {kept} {'stays' if kept == 1 else 'stay'}"
    )


def of_fold(result: FoldResult) -> tuple[str, str]:
    """The badge, and the sentence."""
    return _fold_badge(result), f"{_folded(result)}{_proved(result)}."


def _fold_badge(result: FoldResult) -> str:
    proof = result.verification
    if proof and not proof.passed:
        return "Nothing written: the verification failed"
    if result.refusal is not None:
        return f"Nothing written: {result.refusal}"
    if result.output is None:
        return "Dry run: nothing written"
    if not result.plan.edits:
        return "Nothing to fold: a copy"
    return "Folded and verified" if proof else "Folded, not verified"


def _folded(result: FoldResult) -> str:
    count, gone = len(result.plan.batch_norms), result.plan.foldable
    verb = "went" if result.output else "would go"
    nodes = f"{result.nodes_before} operators become {result.nodes_after}"
    if not count:
        return f"There is no BatchNorm in this model; {nodes}"
    of = (
        "The one"
        if count == gone == 1
        else f"All {count}"
        if count == gone
        else f"{gone} of {count}"
    )
    return f"{of} BatchNorm {verb}; {nodes}"


def _proved(result: FoldResult) -> str:
    proof = result.verification
    if proof is None:
        return ""
    if not proof.passed and proof.first_wrong is not None:
        return f"; the first wrong value is {proof.first_wrong}"
    worst = proof.worst_piece
    if worst is None or not proof.passed:
        return ""
    count = len(proof.pieces or ())
    what = "the one changed piece" if count == 1 else f"the worst of {count:,} changed pieces"
    return f"; {what} is off by {_floors(worst.ratio)}"


def of_verification(result: VerifyResult) -> tuple[str, str]:
    """The badge, and the sentence."""
    found = result.verification
    if not found.decided and not found.differs:
        return "Nothing that was compared could have shown a difference", ""
    count = len(found.outputs)
    if any(output.bounds for output in found.outputs):
        verb = "keep" if result.ok else "do not keep"
        return f"They {verb} to the bounds asked for", f"{counted(count, 'output')} compared."
    worst = max(found.outputs, key=lambda output: output.ratio)
    size = _floors(worst.ratio)
    if result.ok:
        return "Both compute the same", f"The largest error is {size} ({worst.name})."
    sentence = f"{worst.name} is off by {size}"
    first = next((i for i, value in enumerate(found.parting) if not value.passed), None)
    if first is not None:
        name, total = found.parting[first].name, len(found.parting)
        sentence += (
            f"; the first of {total} compared values that differs is number {first + 1}, {name}"
        )
    return "They do not compute the same", f"{sentence}."


def of_recalibration(result: RecalibrationResult) -> str:
    """How many were measured, how far they moved, what the outputs say to that."""
    changes = result.batch_norms
    farthest = max(changes, key=lambda c: c.typical_shift)
    sentence = (
        f"{counted(len(changes), 'BatchNorm', '')} measured anew on {counted(result.samples, 'sample')}; "
        f"the means moved most in {farthest.name}, by {farthest.typical_shift:.2g} standard deviations"
    )
    some = min((o.samples for o in result.outputs), default=result.samples)
    where = f" on {some:,} of them" if some < result.samples else ""
    agreements = [o.argmax_agreement for o in result.outputs if o.argmax_agreement is not None]
    if agreements:
        return f"{sentence}; {1 - min(agreements):.1%} of the predictions changed{where}."
    moved = max((o.relative_change for o in result.outputs), default=0.0)
    return f"{sentence}; the outputs changed by {moved:.1%}{where}."


def _floors(ratio: float) -> str:
    return f"{ratio:.2g} times the rounding floor, of {ALLOWED_RATIO:g} allowed"


def counted(count: int, what: str, plural: str = "s") -> str:
    return f"{count:,} {what}{'' if count == 1 else plural}"
