"""Which kind each ONNX operator is: one file a family, each with a table ``READERS``.

A reader takes a `NodeView` and returns a `Reading`, or None where the node is not of its kind after
all (a product of two computed values, say): it is `Opaque` then.
"""

from __future__ import annotations

from collections.abc import Callable

from bnfold.formats.onnx.graph.operators import (
    averages,
    batch_norm,
    convolutions,
    elementwise,
    homogeneous,
    matrices,
    maxima,
    movements,
    quantisation,
    resizes,
    sequences,
)
from bnfold.formats.onnx.graph.operators.view import NodeView, Reading

READERS: dict[str, Callable[[NodeView], Reading | None]] = {
    **averages.READERS,
    **batch_norm.READERS,
    **convolutions.READERS,
    **elementwise.READERS,
    **homogeneous.READERS,
    **matrices.READERS,
    **maxima.READERS,
    **movements.READERS,
    **quantisation.READERS,
    **resizes.READERS,
    **sequences.READERS,
}

# Named so that a refusal can say "is not linear"; everything else unknown is refused as well.
NONLINEAR = frozenset(
    "Relu LeakyRelu PRelu ThresholdedRelu Elu Selu Celu Gelu Sigmoid HardSigmoid HardSwish Swish "
    "Mish Tanh Softplus Softsign Softmax LogSoftmax Hardmax Clip Erf Exp Log Sqrt Pow Abs "
    "Reciprocal Floor Ceil Round Sign Min Max QuickGelu Shrink Sin Cos Mul Div".split()
)
# Reads a shape or a type of its inputs at these positions, no elements.
SHAPE_READS: dict[str, tuple[int, ...]] = {
    "Shape": (0,),
    "Size": (0,),
    "CastLike": (1,),
    "RandomNormalLike": (0,),
    "RandomUniformLike": (0,),
    "EyeLike": (0,),
}

__all__ = ["NONLINEAR", "READERS", "SHAPE_READS", "NodeView", "Reading"]
