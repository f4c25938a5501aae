"""BatchNormalization in every operator set.

Opset 1-6 mark inference with ``is_test``; 7-13 by having one output; 14 and later by
``training_mode=0``. Opset 1-8 know ``spatial=0``, with a statistic for every position.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from bnfold.constants import Constant, Obstacle
from bnfold.formats.onnx.graph.element_types import element_type
from bnfold.formats.onnx.graph.operators.view import NodeView, Reading
from bnfold.kinds import Norm

# Attributes are float32: the default is the float32 nearest to 1e-5, not the double.
_DEFAULT_EPSILON, _DEFAULT_MOMENTUM = float(np.float32(1e-5)), float(np.float32(0.9))
_INPUTS = ("scale", "shift", "mean", "variance")


def read(view: NodeView) -> Reading:
    found = dict(zip(_INPUTS, map(view.constant, range(1, 5)), strict=True))
    known = [c for c in found.values() if c is not None]
    channels = known[0].shape[0] if known and len(known[0].shape) == 1 else 0
    for what, constant in found.items():
        if constant is not None:
            first = known[0].shape
            view.require(
                constant.shape == first,
                f"has a {what} of shape {list(constant.shape)} beside others of {list(first)}",
            )
    unknown = np.full(channels, np.nan)
    arrays = {k: unknown if c is None else np.ravel(c.float64()) for k, c in found.items()}
    kind = Norm(
        channels=channels,
        epsilon=float(view.attribute("epsilon", _DEFAULT_EPSILON)),
        # ONNX: running_mean = momentum * old + (1 - momentum) * batch.
        momentum=1.0 - float(view.attribute("momentum", _DEFAULT_MOMENTUM)),
        dtype=known[0].dtype if known else np.dtype(np.float32),
        mean=arrays["mean"],
        variance=arrays["variance"],
        scale=arrays["scale"],
        shift=arrays["shift"],
        obstacle=_obstacle(view, found),
        lowers=lambda: _lowers(view, known[0].dtype if known else None),
    )
    return Reading(kind, (view.name(0),))


def _lowers(view: NodeView, parameters: np.dtype[Any] | None) -> bool:
    """Products with a constant per channel need broadcasting (operator set 7) and one number type."""
    if view.opset < 7 or parameters is None:
        return False
    code = helper.np_dtype_to_tensor_dtype(parameters)
    return view.opset < 14 or element_type(view.scope, view.name(0), view.opset) == code


def _obstacle(view: NodeView, found: dict[str, Constant | None]) -> Obstacle | None:
    others = [name for name in view.proto.output[1:] if name]
    if view.opset >= 14:
        training = view.attribute("training_mode", 0) == 1
    elif view.opset >= 7:
        training = bool(others)
    else:
        training = view.attribute("is_test", 0) == 0
    used = [name for name in others if view.is_read(name)]
    if training and used:
        return Obstacle("STATISTICS_IN_USE", used[0])
    if training:
        return Obstacle("TRAINING_MODE")
    for position, constant in enumerate(found.values(), start=1):
        if constant is None:
            return Obstacle("COMPUTED_STATISTICS", view.name(position))
        if constant.obstacle and constant.obstacle.code == "OVERRIDABLE_INITIALIZER":
            return constant.obstacle
    if any(c is not None and len(c.shape) != 1 for c in found.values()):
        return Obstacle("SPATIAL_STATISTICS")
    if view.opset < 9 and view.attribute("spatial", 1) == 0 and view.rank() != 2:
        return Obstacle("SPATIAL_STATISTICS")
    return None


READERS = {"BatchNormalization": read}
