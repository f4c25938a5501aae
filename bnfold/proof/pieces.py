"""Comparing each changed subgraph (piece) by itself, on the original's own activations and on random values.

The random values have the mean and deviation that each channel of the activations has, and at
least a share of the whole tensor's deviation, so that a dead or saturated neighbour hides nothing.
Where a piece holds a rectifier or the like, they are drawn once more, far wider: a channel that is
dead on all that was fed is alive there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.rounding import is_half
from bnfold.progress import Progress, no_progress, told
from bnfold.proof.channels import PieceComparison, compare_channels, movement
from bnfold.proof.comparison import is_float
from bnfold.proof.listing import same_bits
from bnfold.proof.steps import agree_to_a_step
from bnfold.proof.subject import Arrays, Fed, Fold, Leaving, Piece

ACTIVATIONS, RANDOM, WIDE, NOTHING = "activations", "random", "wide", "nothing"
MORE_DRAWS = 8
WIDTH, HALF_WIDTH = 1e3, 16.0  # half precision overflows above 65,504
_LEAST_SHARE = 0.1


def compare_pieces(
    fold: Fold,
    pieces: Sequence[Piece],
    feeds: Arrays,
    outputs: Arrays,
    progress: Progress = no_progress,
) -> tuple[PieceComparison, ...]:
    """Each value that leaves a piece, the worse of its two comparisons.

    Args:
        fold: both files.
        pieces: cut out of them.
        feeds: inputs of the whole network.
        outputs: what the user's own file gives for them. Inner values come from a copy of its
            structure, fed with its tensors: that copy has to give the same.
        progress: called with how many of them are done.

    Raises:
        RuntimeUnavailableError: where a piece does not run.
    """
    return tuple(
        each
        for piece in told(progress, "proving piece by piece", pieces)
        for each in _compared(fold, piece, feeds, outputs)
    )


def _compared(
    fold: Fold, piece: Piece, feeds: Arrays, outputs: Arrays
) -> Iterator[PieceComparison]:
    if any(f.value is None and f.shape is None for f in piece.inputs):
        seen_in = _seen_in(piece, feeds)
        yield from (_not_run(leaving, seen_in) for leaving in piece.outputs)
        return
    names = [f.value for f in piece.inputs] + [o.value for o in piece.outputs]
    known = [name for name in fold.named_outputs if name in outputs]
    wanted = dict.fromkeys([*known, *(name for name in names if name is not None)])
    values = fold.values(feeds, list(wanted))
    misread = [name for name in known if not _alike(outputs[name], values[name])]
    if misread and agree_to_a_step(fold.reference, feeds, outputs, values, misread):
        misread = []
    rng = np.random.default_rng(0)
    observed = {f.key: values[f.value] for f in piece.inputs if f.value is not None}
    random, moved = _on_random_values(piece, _drawn(piece, observed, rng), RANDOM)
    wide: dict[str, PieceComparison] = {}
    if piece.hides:
        wide, _ = _on_random_values(piece, _drawn(piece, observed, rng, widely=True), WIDE)
    activations: dict[str, PieceComparison] = {}
    if len(observed) == len(piece.inputs):
        inside = any(o.value is None for o in piece.outputs)  # a body shows nothing but its results
        own = (
            piece.original(observed)
            if inside
            else {o.key: values[o.value] for o in piece.outputs if o.value is not None}
        )
        activations = _on_activations(piece, observed, own, moved)
    for leaving in piece.outputs:
        found = [each[leaving.key] for each in (random, wide, activations) if each]
        summary = _summary(found)
        yield replace(summary, passed=False, ratio=np.inf, error=np.inf) if misread else summary


def _not_run(leaving: Leaving, seen_in: frozenset[str]) -> PieceComparison:
    """A piece in a body whose sizes nobody knows: it cannot be run by itself, only be seen in the
    outputs of the whole."""
    return PieceComparison(leaving.shown, 0, 0.0, 0.0, 0.0, NOTHING, False, True, seen_in=seen_in)


def _seen_in(piece: Piece, feeds: Arrays) -> frozenset[str]:
    """The outputs of the whole network that move with the parameters of this piece alone. A body
    that never runs moves none."""
    alone = piece.alone()
    first, *others = (alone.perturbed(feeds, draw) for draw in range(MORE_DRAWS))
    return frozenset(
        name
        for name, values in first.items()
        if any(not same_bits(values, other[name]) for other in others)
    )


def _drawn(
    piece: Piece, observed: Arrays, rng: np.random.Generator, *, widely: bool = False
) -> Arrays:
    """Random values for everything that enters a piece."""
    return {f.key: _excited(f, observed.get(f.key), rng, widely) for f in piece.inputs}


def _on_random_values(
    piece: Piece, feeds: Arrays, excitation: str
) -> tuple[dict[str, PieceComparison], dict[str, NDArray[Any]]]:
    """Both models on random values; and how far moved parameters move each value there."""
    whole = piece.original(feeds)
    moved = _movements(piece, feeds, whole)
    if excitation == WIDE:
        moved = {key: _at_least_rounding(m, whole[key], feeds) for key, m in moved.items()}
    candidate = piece.written(feeds)
    return _compared_values(piece, feeds, whole, candidate, moved, excitation), moved


def _at_least_rounding(moved: NDArray[Any], whole: NDArray[Any], feeds: Arrays) -> NDArray[Any]:
    """In float64 there is no finer type for a second look: where wide values cancel, what is left has
    the rounding of what came in."""
    if whole.dtype != np.float64:
        return moved
    peaks = (np.abs(f[np.isfinite(f)]).max(initial=0.0) for f in feeds.values() if is_float(f))
    least = float(np.finfo(np.float64).eps) * float(max(peaks, default=0.0))
    return np.asarray(np.maximum(moved, least))


def _movements(piece: Piece, feeds: Arrays, whole: Arrays) -> dict[str, NDArray[Any]]:
    drawn = piece.original(feeds, 0)
    return {o.key: movement(whole[o.key], [drawn[o.key]], o.axis) for o in piece.outputs}


def _on_activations(
    piece: Piece, feeds: Arrays, whole: Arrays, moved: Mapping[str, NDArray[Any]]
) -> dict[str, PieceComparison]:
    """The written piece on what the original feeds to it, beside what the original as a whole makes
    of that. Random values like these have shown how far moved parameters move them."""
    return _compared_values(piece, feeds, whole, piece.written(feeds), moved, ACTIVATIONS)


def _compared_values(
    piece: Piece,
    feeds: Arrays,
    whole: Arrays,
    candidate: Arrays,
    moved: Mapping[str, NDArray[Any]],
    excitation: str,
) -> dict[str, PieceComparison]:
    found = {}
    for leaving in piece.outputs:
        key = leaving.key
        each = compare_channels(
            leaving.shown, whole[key], candidate[key], moved[key], leaving.axis, excitation
        )
        if not each.passed:
            each = _again(piece, leaving, feeds, whole[key], candidate[key], each)
        found[key] = each
    return found


def _again(
    piece: Piece,
    leaving: Leaving,
    feeds: Arrays,
    whole: NDArray[Any],
    candidate: NDArray[Any],
    first: PieceComparison,
) -> PieceComparison:
    """A second look at a value that seemed to differ: where few elements make a channel, one draw
    may leave its floor too low; and in float64 nothing is rounded but the parameters."""
    where = (leaving.axis, first.excitation)
    moved = movement(whole, piece.moved(leaving, feeds, MORE_DRAWS), leaving.axis)
    each = compare_channels(leaving.shown, whole, candidate, moved, *where)
    settled = each.passed or (np.isinf(each.error) and _overflows(whole, candidate))
    run = None if settled else piece.in_double(leaving, feeds, MORE_DRAWS)
    if run is None:
        return each
    moved = movement(run.reference, run.perturbed, leaving.axis)
    return compare_channels(
        leaving.shown, run.reference, run.candidate, moved, *where, dtype=run.dtype
    )


def _overflows(whole: NDArray[Any], candidate: NDArray[Any]) -> bool:
    """Whether numbers became infinite or NaN; float64 would hide that."""
    if whole.shape != candidate.shape or not is_float(whole):
        return False
    return bool((np.isfinite(whole) & ~np.isfinite(candidate)).any())


def _alike(whole: NDArray[Any], alone: NDArray[Any]) -> bool:
    """Whether a piece computes what the whole network does, up to the order of additions."""
    if whole is alone:
        return True
    if whole.shape != alone.shape or whole.dtype != alone.dtype:
        return False
    if not is_float(whole):
        return bool(np.array_equal(whole, alone))
    a, b = whole.astype(np.float64), alone.astype(np.float64)
    peak = np.abs(a[np.isfinite(a)]).max(initial=0.0)
    with np.errstate(all="ignore"):
        return bool(np.allclose(a, b, rtol=0, atol=1e-3 * peak, equal_nan=True))


def _summary(found: Sequence[PieceComparison]) -> PieceComparison:
    """The worse of several comparisons of one value. It informs where one of them does."""
    worst = max(found, key=lambda each: (not each.passed, each.ratio))
    return replace(worst, informs=any(each.informs for each in found))


def _excited(
    fed: Fed, own: NDArray[Any] | None, rng: np.random.Generator, widely: bool
) -> NDArray[Any]:
    """Random values like an input's own, or with a far larger deviation; what is no floating-point
    number stays as it is."""
    width = (HALF_WIDTH if is_half(fed.dtype) else WIDTH) if widely else 1.0
    if own is None:
        return (width * rng.standard_normal(fed.shape or ())).astype(fed.dtype)
    if not is_float(own) or not own.size:
        return own
    values = own.astype(np.float32 if own.dtype == np.float32 else np.float64)
    if not (finite := np.isfinite(values)).all():
        values[~finite] = 0.0
    channels = tuple(i for i in range(values.ndim) if i != 1)
    mean = values.mean(axis=channels, keepdims=True)
    overall = float(values.std()) or float(np.abs(values).max()) or 1.0
    deviation = np.maximum(values.std(axis=channels, keepdims=True), _LEAST_SHARE * overall)
    deviation *= width
    noise = rng.standard_normal(own.shape, dtype=np.float32)
    noise *= deviation.astype(np.float32)
    noise += mean
    return noise.astype(own.dtype, copy=False)
