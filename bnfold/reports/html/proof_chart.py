"""Errors against what rounding explains, as a chart: of changed pieces, of outputs, of inner values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from bnfold.algebra.affine import Array
from bnfold.proof.channels import PieceComparison
from bnfold.proof.comparison import ALLOWED_RATIO, OutputComparison
from bnfold.proof.verification import Verification
from bnfold.reports.html.plot import Axis, Plot


def proof_chart(pieces: Sequence[PieceComparison]) -> Markup:
    """Each changed piece of a fold."""
    worst = max(piece.ratio for piece in pieces)
    words = (
        f"Error of {len(pieces)} changed pieces against their rounding floors, logarithmic: at most "
        f"{worst:.2g} floors, {ALLOWED_RATIO:g} are allowed"
    )
    return _chart(pieces, words)


def parting_chart(found: Verification) -> Markup | None:
    """The values that two models both name, in the order of the reference; where none differ, or none
    have a name in both, their outputs. Nothing where bounds of the user's judge, or with one output:
    a number says as much."""
    if values := found.parting:
        first = next(i for i, value in enumerate(values) if not value.passed)
        words = (
            f"Error of {len(values)} values against their rounding floors, logarithmic: from number "
            f"{first + 1}, {values[first].name}, on they differ"
        )
        return _chart(values, words)
    if len(found.outputs) < 2 or any(output.bounds for output in found.outputs):
        return None
    words = f"Error of {len(found.outputs)} outputs against their rounding floors, logarithmic"
    return _chart([_as_piece(output) for output in found.outputs], words)


def _as_piece(output: OutputComparison) -> PieceComparison:
    return PieceComparison(
        output.name,
        0,
        output.max_abs_error,
        output.rounding_floor,
        output.ratio,
        "",
        output.informs,
        output.passed,
    )


def _chart(pieces: Sequence[PieceComparison], words: str) -> Markup:
    """A zone from the rounding floor to what is allowed for each, and a dot where its error lies."""
    floors, errors = (np.array([getattr(p, key) for p in pieces]) for key in ("floor", "error"))
    limits = floors * ALLOWED_RATIO
    axis = Axis.logarithmic(floors, limits, errors)
    plot = Plot(words, axis, [_tip(i, p) for i, p in enumerate(pieces)])
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
    how = f" ({piece.excitation}{', in float64' if piece.precise else ''})"
    where = f"{piece.name}, channel {piece.channel}" if piece.excitation else piece.name
    return (
        f"{index + 1}: {where}: error {piece.error:.3g}, floor {piece.floor:.3g}, "
        f"{piece.ratio:.2g} floors{how if piece.excitation else ''}"
    )
