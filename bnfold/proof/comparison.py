"""How far the outputs of two whole networks are apart, measured against rounding noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.rounding import float_info, is_half
from bnfold.proof.bounds import Bounds, Measured

ALLOWED_RATIO = 8.0
CAP, HALF_CAP = 1e-3, 5e-2
# Of discrete values that no draw of rounding moves, one in so many may still be a near tie.
_TIES = 1e-5

Array = NDArray[Any]


@dataclass(frozen=True)
class OutputComparison:
    """One output of two models on the same inputs.

    ``rounding_floor`` is how far the reference's own output moves when its parameters change by one
    unit in the last place; ``ratio`` is the error over that floor, on the inputs where it is worst.
    ``cap`` is a share of the range of the output's values: where the floor is above it, rounding
    blurs the output. ``informs``: whether the output could have shown a difference; a constant,
    saturated, discrete, blurred or non-finite one could not. ``agreement`` is the share of equal
    elements, ``argmax_agreement`` that of rows with the same largest entry, where the output looks
    like class scores. ``bounds``: what the user asked for in place of the rounding floor.
    """

    name: str
    max_abs_error: float
    max_abs_reference: float
    rounding_floor: float
    ratio: float
    cap: float
    agreement: float
    argmax_agreement: float | None
    informs: bool
    passed: bool
    bounds: tuple[Measured, ...] = ()

    @property
    def is_small(self) -> bool:
        """Whether the error is a small share of the output's range, whatever rounding does."""
        return self.max_abs_error <= self.cap

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "max_abs_error": number(self.max_abs_error),
            "max_abs_reference": number(self.max_abs_reference),
            "rounding_floor": number(self.rounding_floor),
            "ratio": number(self.ratio),
            "agreement": self.agreement,
            "argmax_agreement": self.argmax_agreement,
            "informs": self.informs,
            "bounds": [each.to_json() for each in self.bounds],
            "passed": self.passed,
        }


@dataclass(frozen=True)
class _OnOneInput:
    """What one set of inputs shows."""

    error: float
    peak: float
    floor: float
    cap: float
    informs: bool
    passed: bool

    @property
    def ratio(self) -> float:
        return ratio_of(self.error, self.floor)


def compare(
    name: str,
    references: Sequence[Array],
    candidates: Sequence[Array],
    perturbed: Sequence[Sequence[Array]],
    bounds: Bounds | None = None,
) -> OutputComparison:
    """Compares one output over several inputs.

    Args:
        name: the output's name.
        references: the original's output, one array for each input.
        candidates: the other model's, in the same order.
        perturbed: for each input, the original's output in several draws of rounded parameters.
        bounds: judge by these.
    """
    rows = [
        _compared(_real(r), _real(c), [_real(p) for p in draws])
        for r, c, draws in zip(references, candidates, perturbed, strict=True)
    ]
    pairs = list(zip(references, candidates, strict=True))
    worst = max(rows, key=lambda row: row.ratio)
    same = [_agreement(r, c) for r, c in pairs if r.size]
    comparable = all(r.shape == c.shape and r.dtype != object for r, c in pairs)
    judged = bounds.judge(name, references, candidates) if bounds and comparable else ()
    return OutputComparison(
        name=name,
        max_abs_error=max(row.error for row in rows),
        max_abs_reference=max(row.peak for row in rows),
        rounding_floor=worst.floor,
        ratio=worst.ratio,
        cap=worst.cap,
        agreement=float(np.mean(same)) if same else 1.0,
        argmax_agreement=_argmax_agreement(pairs),
        informs=bool(judged) or any(row.informs for row in rows),
        passed=all(each.passed for each in judged or rows),
        bounds=judged,
    )


def is_float(array: Array) -> bool:
    """Whether the elements are real floating-point numbers, those of ml_dtypes included."""
    return is_float_type(array.dtype)


def is_float_type(dtype: np.dtype[Any]) -> bool:
    """Whether a type is a real floating-point one, those of ml_dtypes included."""
    return np.issubdtype(dtype, np.floating) or "float" in dtype.name


def ratio_of(error: float, floor: float) -> float:
    """How many floors an error is; infinite where there is one and rounding does nothing."""
    if error == 0:
        return 0.0
    return error / floor if floor > 0 else float(np.inf)


def number(value: float) -> float | None:
    """JSON knows no infinity and no NaN."""
    return float(value) if np.isfinite(value) else None


def _compared(reference: Array, candidate: Array, draws: Sequence[Array]) -> _OnOneInput:
    if reference.shape != candidate.shape:
        return _OnOneInput(np.inf, 0.0, 0.0, 0.0, True, False)
    if not is_float(reference) or not is_float(candidate):
        return _discrete(reference, candidate, draws)
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    moved = [p.astype(np.float64) for p in draws]
    finite = np.isfinite(a)
    if not _same_pattern(a, b, moved):
        return _OnOneInput(np.inf, _peak(a), 0.0, 0.0, True, False)
    both = finite & np.isfinite(b)
    error = float(np.abs(a[both] - b[both]).max(initial=0.0))
    shaken = max((_distance(a, p) for p in moved), default=0.0)
    peak, dtype = _peak(a), reference.dtype
    # The outputs themselves are rounded: less than one unit in their last place is no error.
    floor = max(shaken, float(float_info(dtype).eps) * peak * 0.5)
    cap = (HALF_CAP if is_half(dtype) else CAP) * _range(a[finite])
    informs = bool(both.any()) and 0 < shaken <= cap and floor <= cap
    passed = error <= ALLOWED_RATIO * floor
    if informs:
        passed = passed and error <= cap
    else:  # blurred by rounding, or discrete
        passed = passed or floor > cap > 0 or _stable_elements_agree(reference, candidate, draws)
    return _OnOneInput(error, peak, floor, cap, informs, bool(passed))


def _discrete(reference: Array, candidate: Array, draws: Sequence[Array]) -> _OnOneInput:
    """Whole numbers, truth values, text: equal wherever rounding leaves the original's alone."""
    agree = _stable_elements_agree(reference, candidate, draws)
    error = 0.0 if agree else float(np.inf)
    return _OnOneInput(error, 0.0, 0.0, 0.0, False, agree)


def _stable_elements_agree(reference: Array, candidate: Array, draws: Sequence[Array]) -> bool:
    """Whether elements that no draw of rounding moves are equal, near ties aside."""
    stable = np.ones(reference.shape, bool)
    for draw in draws:
        stable &= _equal(reference, draw)
    flipped = reference.size - int(stable.sum())
    differ = int((stable & ~_equal(reference, candidate)).sum())
    return differ <= 4 * flipped + int(_TIES * reference.size)


def _same_pattern(a: Array, b: Array, moved: Sequence[Array]) -> bool:
    """Whether NaN and infinities stand at the same places, wherever rounding does not move them."""
    odd = (~np.isfinite(a) | ~np.isfinite(b)) & ~_equal(a, b)
    for p in moved:
        odd &= np.isfinite(a) == np.isfinite(p)
    return not odd.any()


def _real(array: Array) -> Array:
    """Complex numbers as pairs of real ones, along a new last axis."""
    return np.stack([array.real, array.imag], axis=-1) if np.iscomplexobj(array) else array


def _equal(a: Array, b: Array) -> NDArray[np.bool_]:
    if is_float(a) and is_float(b):
        return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))
    return np.asarray(a == b)


def _agreement(a: Array, b: Array) -> float:
    return float(np.mean(_equal(a, b))) if a.shape == b.shape else 0.0


def _distance(a: Array, b: Array) -> float:
    """The largest difference of elements that are finite in both."""
    both = np.isfinite(a) & np.isfinite(b)
    return float(np.abs(a[both] - b[both]).max(initial=0.0))


def _peak(a: Array) -> float:
    return float(np.abs(a[np.isfinite(a)]).max(initial=0.0))


def _range(finite: Array) -> float:
    """From the smallest to the largest value: what scores on a large offset differ by. One value
    alone has its magnitude."""
    if finite.size < 2:
        return float(np.abs(finite).max(initial=0.0))
    return float(finite.max() - finite.min())


def _argmax_agreement(pairs: Sequence[tuple[Array, Array]]) -> float | None:
    """The share of rows with the same largest entry, for outputs of shape (batch, classes)."""
    if any(r.ndim != 2 or r.shape[1] < 2 or r.shape != c.shape or not r.size for r, c in pairs):
        return None
    if any(np.iscomplexobj(r) or r.dtype == object for r, _ in pairs):
        return None
    return float(np.concatenate([r.argmax(axis=1) == c.argmax(axis=1) for r, c in pairs]).mean())
