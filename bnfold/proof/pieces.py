"""Proving each changed piece by itself: on the original's own activations, and on random values.

The random values have the mean and deviation that each channel of the activations has, and at
least a share of the whole tensor's deviation, so that a dead or saturated neighbour hides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.proof.channels import PieceComparison, compare_channels
from bnfold.proof.comparison import is_float
from bnfold.proof.subject import Arrays, Fed, Fold, Leaving, Piece

ACTIVATIONS, RANDOM, NOTHING = "activations", "random", "nothing"
DRAWS, MORE_DRAWS = 2, 12
_LEAST_SHARE = 0.1


def compare_pieces(
    fold: Fold, pieces: Sequence[Piece], feeds: Arrays, outputs: Arrays
) -> tuple[PieceComparison, ...]:
    """Each value that leaves a piece, the worse of its two comparisons.

    Args:
        fold: both files.
        pieces: cut out of them.
        feeds: inputs of the whole network.
        outputs: what the user's own file gives for them. Inner values come from a copy of its
            structure, fed with its tensors: that copy has to give the same.

    Raises:
        RuntimeUnavailableError: where a piece does not run.
    """
    return tuple(each for piece in pieces for each in _compared(fold, piece, feeds, outputs))


def _compared(
    fold: Fold, piece: Piece, feeds: Arrays, outputs: Arrays
) -> Iterator[PieceComparison]:
    if any(f.value is None and f.shape is None for f in piece.inputs):
        yield from (_not_run(leaving) for leaving in piece.outputs)
        return
    names = [f.value for f in piece.inputs] + [o.value for o in piece.outputs]
    known = [name for name in fold.named_outputs if name in outputs]
    wanted = dict.fromkeys([*known, *(name for name in names if name is not None)])
    values = fold.values(feeds, list(wanted))
    misread = [name for name in known if not _alike(outputs[name], values[name])]
    rng = np.random.default_rng(0)
    observed = {f.key: values[f.value] for f in piece.inputs if f.value is not None}
    excited = {f.key: _excited(f, observed.get(f.key), rng) for f in piece.inputs}
    found: dict[str, list[PieceComparison]] = {o.key: [] for o in piece.outputs}
    if len(observed) == len(excited):
        own = {o.key: values[o.value] for o in piece.outputs if o.value is not None}
        _compare_on(piece, observed, own, ACTIVATIONS, found)
    _compare_on(piece, excited, None, RANDOM, found)
    for leaving in piece.outputs:
        each = _summary(found[leaving.key])
        yield replace(each, passed=False, ratio=np.inf, error=np.inf) if misread else each


def _not_run(leaving: Leaving) -> PieceComparison:
    """A piece in a body whose sizes nobody knows: it cannot be run by itself."""
    return PieceComparison(leaving.shown, 0, 0.0, 0.0, 0.0, NOTHING, False, True)


def _compare_on(
    piece: Piece,
    feeds: Arrays,
    reference: Arrays | None,
    excitation: str,
    found: dict[str, list[PieceComparison]],
) -> None:
    """Compares all values that leave a piece.

    ``reference`` are the values that they have in the original as a whole, where they are known: the
    piece alone has to compute the same, or it would be no piece of the original.
    """
    alone = piece.original(feeds)
    whole = alone if reference is None else {**alone, **reference}
    candidate = piece.written(feeds)
    moved = [piece.original(feeds, draw) for draw in range(DRAWS)]

    def compared(leaving: Leaving) -> PieceComparison:
        key = leaving.key
        others = [m[key] for m in moved]
        return compare_channels(
            leaving.shown, whole[key], candidate[key], others, leaving.axis, excitation
        )

    first = {leaving.key: compared(leaving) for leaving in piece.outputs}
    if not all(each.passed for each in first.values()):
        # Where few elements make a channel, few draws may leave its floor too low.
        moved += [piece.original(feeds, draw) for draw in range(DRAWS, MORE_DRAWS)]
    for leaving in piece.outputs:
        key, each = leaving.key, first[leaving.key]
        each = each if each.passed else compared(leaving)
        if not _alike(whole[key], alone[key]):
            each = replace(each, passed=False, error=np.inf, ratio=np.inf)
        elif not each.passed:
            each = _in_double(piece, leaving, feeds, each)
        found[key].append(each)


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


def _in_double(
    piece: Piece, leaving: Leaving, feeds: Arrays, found: PieceComparison
) -> PieceComparison:
    """The same in float64, where nothing is rounded but the parameters."""
    run = piece.in_double(leaving, feeds, DRAWS)
    if run is None:
        return found
    return compare_channels(
        leaving.shown,
        run.reference,
        run.candidate,
        run.perturbed,
        leaving.axis,
        found.excitation,
        dtype=run.dtype,
    )


def _summary(found: Sequence[PieceComparison]) -> PieceComparison:
    """The worse of several comparisons of one value. It informs where one of them does."""
    worst = max(found, key=lambda each: (not each.passed, each.ratio))
    return replace(worst, informs=any(each.informs for each in found))


def _excited(fed: Fed, own: NDArray[Any] | None, rng: np.random.Generator) -> NDArray[Any]:
    """Random values like an input's own; what is no floating-point number stays as it is."""
    if own is None:
        return rng.standard_normal(fed.shape or ()).astype(fed.dtype)
    if not is_float(own) or not own.size:
        return own
    values = own.astype(np.float64)
    values[~np.isfinite(values)] = 0.0
    channels = tuple(i for i in range(values.ndim) if i != 1)
    mean = values.mean(axis=channels, keepdims=True)
    overall = float(values.std()) or float(np.abs(values).max()) or 1.0
    deviation = np.maximum(values.std(axis=channels, keepdims=True), _LEAST_SHARE * overall)
    noise = rng.standard_normal(own.shape, dtype=np.float32)
    return np.asarray(mean + deviation * noise).astype(own.dtype)
