"""Which kind each ONNX operator is: one file a family, each with a table ``READERS``.

A reader takes a `NodeView` and returns a `Reading`, or None where the node is not of its kind after
all (a product of two computed values, say): it is `Opaque` then.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from bnfold.formats.onnx.graph.operators import (
    averages,
    batch_norm,
    contributed,
    convolutions,
    einsum,
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
    **einsum.READERS,
    **elementwise.READERS,
    **homogeneous.READERS,
    **matrices.READERS,
    **maxima.READERS,
    **movements.READERS,
    **quantisation.READERS,
    **resizes.READERS,
    **sequences.READERS,
}

# Matrix products, which have no bias of their own.
PRODUCTS = frozenset({"MatMul", "Einsum"})

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


def reader_of(proto: onnx.NodeProto) -> Callable[[NodeView], Reading | None] | None:
    """The reader of a node's operator, None where there is none."""
    if proto.domain == contributed.DOMAIN:
        return contributed.READERS.get(proto.op_type)
    return READERS.get(proto.op_type) if proto.domain in ("", "ai.onnx") else None


__all__ = ["NONLINEAR", "PRODUCTS", "READERS", "SHAPE_READS", "NodeView", "Reading", "reader_of"]
