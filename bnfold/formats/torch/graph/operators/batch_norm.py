"""Every operator that normalises with given statistics, whatever module called it.

With ``training``, or without running statistics, each batch is normalised with its own: that is
no constant map.
"""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.constants import Obstacle
from bnfold.formats.torch.file.tensors import numpy_dtype
from bnfold.formats.torch.graph.arguments import fixed_size
from bnfold.formats.torch.graph.operators.view import CallView, Reading
from bnfold.kinds import Norm

_INFERENCE = {"_native_batch_norm_legit_no_training", "_batch_norm_no_update"}
_ARRAYS = ("running_mean", "running_var", "weight", "bias")


def read(view: CallView) -> Reading | None:
    source = view.fake("input")
    channels = _channels(view)
    if channels is None or not source.dtype.is_floating_point:
        return None
    obstacle = _obstacle(view)
    known = next((c for c in map(view.constant, _ARRAYS) if c is not None), None)
    momentum = view.get("momentum", view.get("exponential_average_factor"))
    kind = Norm(
        channels=channels,
        mean=_array(view, "running_mean", channels),
        variance=_array(view, "running_var", channels),
        scale=_array(view, "weight", channels),
        shift=_array(view, "bias", channels),
        epsilon=float(view.get("eps", view.get("epsilon"))),
        momentum=None if momentum is None else float(momentum),
        dtype=numpy_dtype(source.dtype) if known is None else known.dtype,
        obstacle=obstacle,
        lowers=lambda: _lowers(view, known is None or known.dtype == numpy_dtype(source.dtype)),
    )
    return Reading(kind, (view.flow("input"),))


def _channels(view: CallView) -> int | None:
    """As many as there are statistics; the axis itself may be computed from one that is free."""
    given = [view.fake(name) for name in _ARRAYS if view.tensor(name) is not None]
    return fixed_size(given[0].shape[0] if given else view.fake("input").shape[1])


def _lowers(view: CallView, of_one_type: bool) -> bool:
    """Calls that return the statistics too are left as they are."""
    return of_one_type and not view.returns_several


def _array(view: CallView, name: str, channels: int) -> Array:
    constant = view.constant(name)
    if constant is not None:
        return constant.float64().reshape(-1)
    if view.tensor(name) is None and name in ("weight", "bias"):
        return np.full(channels, 1.0 if name == "weight" else 0.0)
    return np.full(channels, np.nan)


def _obstacle(view: CallView) -> Obstacle | None:
    training = view.get("training", view.op not in _INFERENCE)
    if training is not False or view.tensor("running_mean") is None:
        return Obstacle("TRAINING_MODE")
    for name in _ARRAYS:
        node = view.tensor(name)
        if node is not None and view.constants.find(node) is None:
            return Obstacle("COMPUTED_STATISTICS", node.name)
    if view.returns_several and not view.only_first_result_read():
        return Obstacle("STATISTICS_IN_USE", view.node.name)
    return None


READERS = dict.fromkeys(
    (
        "batch_norm",
        "native_batch_norm",
        "cudnn_batch_norm",
        "miopen_batch_norm",
        "_native_batch_norm_legit",
        "_native_batch_norm_legit_functional",
        "_batch_norm_with_update",
        "_batch_norm_with_update_functional",
        *_INFERENCE,
    ),
    read,
)
