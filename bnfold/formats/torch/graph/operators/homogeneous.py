"""Rectifiers, magnitudes and norms: what a positive factor passes as it is."""

from __future__ import annotations

from bnfold.formats.torch.graph.operators.averages import reduced_axes
from bnfold.formats.torch.graph.operators.view import CallView, Reading
from bnfold.kinds import Homogeneous


def read_relu(view: CallView) -> Reading:
    return Reading(Homogeneous(rectifies=True), (view.flow("self"),))


def read_elementwise(view: CallView) -> Reading:
    return Reading(Homogeneous(), (view.flow("self"),))


def read_leaky(view: CallView) -> Reading | None:
    return read_elementwise(view) if view.is_plain("negative_slope") else None


def read_prelu(view: CallView) -> Reading | None:
    """A slope that is computed is another value that flows in."""
    return None if view.constant("weight") is None else read_elementwise(view)


def read_clamp(view: CallView) -> Reading | None:
    """Cut off below at zero and nowhere else, it is a relu."""
    least, most = view.get("min"), view.get("max")
    plain = view.is_plain("min") and least == 0 and most is None
    return read_relu(view) if plain else None


def read_norm(view: CallView) -> Reading | None:
    """The p-norm over some axes, p plain and positive."""
    order = view.get("ord", view.get("p", 2))
    result = view.result
    if not isinstance(order, int | float) or order <= 0 or result is None:
        return None
    if view.fake("self").dtype != result.dtype:
        return None
    axes = reduced_axes(view)
    return None if axes is None else Reading(Homogeneous(axes), (view.flow("self"),))


READERS = {
    "relu": read_relu,
    "leaky_relu": read_leaky,
    "prelu": read_prelu,
    "_prelu_kernel": read_prelu,
    "abs": read_elementwise,
    "clamp": read_clamp,
    "clamp_min": read_clamp,
    "linalg_vector_norm": read_norm,
}
