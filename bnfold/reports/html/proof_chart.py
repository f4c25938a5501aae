"""The proof of a fold as a chart: the error of each changed piece against what rounding explains."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from bnfold.algebra.affine import Array
from bnfold.proof.channels import PieceComparison
from bnfold.proof.comparison import ALLOWED_RATIO
from bnfold.reports.html.plot import Axis, Plot


def proof_chart(pieces: tuple[PieceComparison, ...]) -> Markup:
    """A zone from the rounding floor to what is allowed for each piece, and a dot where its error lies."""
    floors, errors = (np.array([getattr(p, key) for p in pieces]) for key in ("floor", "error"))
    limits = floors * ALLOWED_RATIO
    axis = Axis.logarithmic(floors, limits, errors)
    plot = Plot(_words(pieces), axis, [_tip(i, p) for i, p in enumerate(pieces)])
    passed = np.array([p.passed for p in pieces])
    return plot.draw(
        plot.spans(_positive(floors, axis), _positive(limits, axis), "allowed"),
        plot.dots(np.where(passed, _positive(errors, axis), np.nan), "within"),
        plot.dots(np.where(passed, np.nan, _positive(errors, axis)), "beyond"),
    )


def _positive(values: Array, axis: Axis) -> Array:
    """An error of exactly 0 lies on the floor of the chart, an infinite one at its top."""
    return np.clip(values, 10.0**axis.low, 10.0**axis.high)


def _tip(index: int, piece: PieceComparison) -> str:
    how = f"{piece.excitation}{', in float64' if piece.precise else ''}"
    return (
        f"{index + 1}: {piece.name}, channel {piece.channel}: error {piece.error:.3g}, "
        f"floor {piece.floor:.3g}, {piece.ratio:.2g} floors ({how})"
    )


def _words(pieces: tuple[PieceComparison, ...]) -> str:
    worst = max(piece.ratio for piece in pieces)
    return (
        f"Error of {len(pieces)} changed pieces against their rounding floors, logarithmic: at most "
        f"{worst:.2g} floors, {ALLOWED_RATIO:g} are allowed"
    )
