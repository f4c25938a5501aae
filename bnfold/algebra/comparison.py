"""How far two outputs are apart, measured against what rounding alone does to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.rounding import float_info, is_half

ALLOWED_RATIO = 8.0
CAP, HALF_CAP = 1e-3, 5e-2


@dataclass(frozen=True)
class OutputComparison:
    """One output of two models on the same inputs.

    ``rounding_floor`` is how far the reference's own output moves when its parameters change by one
    unit in the last place; ``ratio`` is the error over that floor. ``argmax_agreement`` is given
    where the output looks like class scores. ``decided``: False where the floor itself is above
    ``cap``, so that this comparison proves nothing either way; None for outputs that are not
    floating-point, which are reported as ``agreement`` only.
    """

    name: str
    max_abs_error: float
    max_abs_reference: float
    rounding_floor: float
    ratio: float
    cap: float
    agreement: float
    argmax_agreement: float | None
    decided: bool | None
    passed: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "max_abs_error": _number(self.max_abs_error),
            "max_abs_reference": _number(self.max_abs_reference),
            "rounding_floor": _number(self.rounding_floor),
            "ratio": _number(self.ratio),
            "agreement": self.agreement,
            "argmax_agreement": self.argmax_agreement,
            "decided": self.decided,
            "passed": self.passed,
        }


def compare(
    name: str,
    references: Sequence[NDArray[Any]],
    candidates: Sequence[NDArray[Any]],
    perturbed: Sequence[Sequence[NDArray[Any]]],
) -> OutputComparison:
    """Compares one output over several inputs.

    Args:
        name: the output's name.
        references: the original's output, one array for each input.
        candidates: the other model's, in the same order.
        perturbed: for each input, the original's output in several draws of rounded parameters.
    """
    references, candidates = _all_real(references), _all_real(candidates)
    perturbed = [_all_real(draws) for draws in perturbed]
    floating = all(_is_float(r) for r in references)
    same_shape = all(r.shape == c.shape for r, c in zip(references, candidates, strict=True))
    if not same_shape or not floating:
        return _exact(name, references, candidates, same_shape, floating)
    error = max(_distance(r, c) for r, c in zip(references, candidates, strict=True))
    peak = max(_peak(r) for r in references)
    moved = [_distance(r, p) for r, draws in zip(references, perturbed, strict=True) for p in draws]
    info = float_info(references[0].dtype)
    # The outputs themselves are rounded: less than one unit in their last place is no error.
    floor = max([*moved, float(info.eps) * peak * 0.5])
    cap = (HALF_CAP if is_half(references[0].dtype) else CAP) * peak
    ratio = error / floor if floor > 0 else (0.0 if error == 0 else np.inf)
    within = bool(error <= ALLOWED_RATIO * floor and error <= cap) or error == 0
    decided = within or bool(floor <= cap)
    same = [np.mean(_equal(r, c)) for r, c in zip(references, candidates, strict=True) if r.size]
    return OutputComparison(
        name=name,
        max_abs_error=error,
        max_abs_reference=peak,
        rounding_floor=floor,
        ratio=float(ratio),
        cap=cap,
        agreement=float(np.mean(same)) if same else 1.0,
        argmax_agreement=_argmax_agreement(references, candidates),
        decided=decided,
        passed=within or not decided,
    )


def _exact(
    name: str,
    references: Sequence[NDArray[Any]],
    candidates: Sequence[NDArray[Any]],
    same_shape: bool,
    floating: bool,
) -> OutputComparison:
    """Integers and the like are reported, not judged; a different shape of floats is wrong."""
    pairs = list(zip(references, candidates, strict=True))
    same = [np.mean(r == c) for r, c in pairs if r.shape == c.shape and r.size]
    agreement = float(np.mean(same)) if same else float(same_shape)
    wrong = floating and not same_shape
    return OutputComparison(
        name, np.inf if wrong else 0.0, 0.0, 0.0, np.inf if wrong else 0.0, 0.0,
        agreement, None, True if wrong else None, not wrong,
    )  # fmt: skip


def _all_real(arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Complex numbers as pairs of real ones, along a new last axis."""
    return [np.stack([a.real, a.imag], axis=-1) if np.iscomplexobj(a) else a for a in arrays]


def _is_float(array: NDArray[Any]) -> bool:
    return np.issubdtype(array.dtype, np.floating) or "float" in array.dtype.name


def _equal(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


def _distance(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """The largest difference; infinite where one is finite and the other is not."""
    if reference.shape != other.shape:
        return float(np.inf)
    a, b = reference.astype(np.float64), other.astype(np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    if (~both & ~_equal(a, b)).any():
        return float(np.inf)
    return float(np.abs(a[both] - b[both]).max(initial=0.0))


def _peak(array: NDArray[Any]) -> float:
    values = array.astype(np.float64)
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def _argmax_agreement(
    references: Sequence[NDArray[Any]], candidates: Sequence[NDArray[Any]]
) -> float | None:
    """The share of rows with the same largest entry, for outputs of shape (batch, classes)."""
    if any(r.ndim != 2 or r.shape[1] < 2 for r in references):
        return None
    pairs = zip(references, candidates, strict=True)
    same = [r.argmax(axis=1) == c.argmax(axis=1) for r, c in pairs]
    return float(np.concatenate(same).mean())


def _number(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if np.isfinite(value) else None
