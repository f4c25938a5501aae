"""Interpolation: a Movement where it copies the nearest element, an Average otherwise."""

from __future__ import annotations

from bnfold.formats.torch.graph.operators.view import CallView, Reading
from bnfold.kinds import Average, Movement


def _flow(view: CallView) -> str:
    return "input" if "input" in view.arguments else "self"


def read_nearest(view: CallView) -> Reading:
    rank = view.fake(_flow(view)).ndim
    return Reading(Movement(tuple(range(2, rank))), (view.flow(_flow(view)),))


def read_smooth(view: CallView) -> Reading:
    rank = view.fake(_flow(view)).ndim
    return Reading(Average((0, 1, *[None] * (rank - 2))), (view.flow(_flow(view)),))


READERS = {
    **{f"upsample_nearest{n}d": read_nearest for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": read_nearest for n in (1, 2, 3)},
    **dict.fromkeys(
        (
            "upsample_linear1d",
            "upsample_bilinear2d",
            "upsample_trilinear3d",
            "upsample_bicubic2d",
            "_upsample_bilinear2d_aa",
            "_upsample_bicubic2d_aa",
        ),
        read_smooth,
    ),
}
