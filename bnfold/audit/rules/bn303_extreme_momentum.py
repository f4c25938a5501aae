"""Momentum: running statistics that never move, or forget all but the last batch.

What it does
------------
Reports layers whose momentum gives a new batch no weight at all, or all of it.

Why it matters
--------------
For the network as it stands it does not matter: inference does not use it. It matters when somebody
trains on. With no weight for the new batch (0 in PyTorch, 1 in ONNX, Keras and TensorFlow, which
count the other way round) the running statistics stay as they are while the weights move away from
them. With all of it (1 in PyTorch, 0 in the others) they are those of the last batch alone, however
odd that batch is. A converter that copies the number instead of turning it round makes one of the
other. PyTorch's `momentum=None`, a plain average over all batches, has no number of its own: both
torch exporters write it as if the statistics never moved.

What to do
----------
Before training on, set it by hand: 0.1 in PyTorch is 0.9 in ONNX and Keras. For deployment leave
it. If the stored statistics may be those of one batch, compare them with data
(`bnfold inspect --data`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, counted, listed

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject

# By the weight of the new batch, with what the file says in either way of counting.
_EXTREMES = {
    0.0: (
        "never move in training",
        "momentum 0 in PyTorch (None is exported as 0 too), 1 in ONNX and Keras",
    ),
    1.0: (
        "are those of the last batch alone in training",
        "momentum 1 in PyTorch, 0 in ONNX and Keras",
    ),
}


def check(subject: Subject) -> Iterable[Hit]:
    for weight, (what, written) in _EXTREMES.items():
        names = [layer.name for layer in subject.layers if layer.norm.momentum == weight]
        if names:
            of_all = f"{len(names)} of {counted(len(subject.layers), 'layer')}"
            yield Hit(
                f"The running statistics of {of_all} ({listed(names)}) {what}: {written}. "
                "Inference is not concerned.",
                size=len(names),
            )


RULE = Rule("BN303", "extreme-momentum", Severity.INFO, check, __doc__)
