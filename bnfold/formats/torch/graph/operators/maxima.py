"""Maxima over space."""

from __future__ import annotations

from collections.abc import Callable

from bnfold.formats.torch.graph.operators.averages import pooled_axes, reduced_axes
from bnfold.formats.torch.graph.operators.view import CallView, Reading
from bnfold.kinds import Monotone


def pool(spatial: int) -> Callable[[CallView], Reading | None]:
    """A pool over the last ``spatial`` axes; not where the indices of the maxima are in use."""

    def read(view: CallView) -> Reading | None:
        if view.returns_several and not view.only_first_result_read():
            return None
        return Reading(Monotone(pooled_axes(view, spatial)), (view.flow("self"),))

    return read


def read_max(view: CallView) -> Reading | None:
    """amax, and max without a second tensor."""
    if "other" in view.arguments or (view.returns_several and not view.only_first_result_read()):
        return None
    axes = reduced_axes(view)
    return None if axes is None else Reading(Monotone(axes), (view.flow("self"),))


READERS = {
    **{f"max_pool{n}d": pool(n) for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": pool(n) for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": pool(n) for n in (1, 2, 3)},
    "amax": read_max,
    "max": read_max,
}
