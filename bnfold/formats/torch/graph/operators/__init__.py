"""Which kind each ATen operator is: one file a family, each with a table ``READERS``.

A reader takes a `CallView` and returns a `Reading`, or None where the call is not of its kind after
all (a product of two computed values, say): it is `Opaque` then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bnfold.formats.torch.graph.arguments import is_aten, is_aten_call, operator_of
from bnfold.formats.torch.graph.operators import (
    averages,
    batch_norm,
    convolutions,
    elementwise,
    homogeneous,
    matrices,
    maxima,
    mixtures,
    movements,
    quantisation,
    resizes,
    vision,
)
from bnfold.formats.torch.graph.operators.view import CallView, Reading

READERS: dict[str, Callable[[CallView], Reading | None]] = {
    **averages.READERS,
    **batch_norm.READERS,
    **convolutions.READERS,
    **elementwise.READERS,
    **homogeneous.READERS,
    **matrices.READERS,
    **maxima.READERS,
    **mixtures.READERS,
    **movements.READERS,
    **quantisation.READERS,
    **resizes.READERS,
}

_OTHERS: dict[str, Mapping[str, Callable[[CallView], Reading | None]]] = {
    vision.NAMESPACE: vision.READERS,
    quantisation.NAMESPACE: quantisation.DECOMPOSED,
}

# Matrix products, which have no bias of their own.
PRODUCTS = frozenset(("matmul", "mm", "bmm", "einsum"))

# Named so that a refusal can say "is not linear"; everything else unknown is refused as well.
NONLINEAR = frozenset(
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu sigmoid log_sigmoid hardsigmoid hardswish "
    "silu mish tanh hardtanh softplus softsign softmax _softmax log_softmax _log_softmax clamp "
    "clamp_min clamp_max clip erf exp log sqrt rsqrt pow abs reciprocal floor ceil round sign "
    "minimum maximum threshold softshrink hardshrink tanhshrink sin cos mul div glu".split()
)
# Arguments of which only the shape or the type is read, no elements.
SHAPE_READS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("reshape_as", "view_as", "expand_as", "type_as"), ("other",)),
    **dict.fromkeys(
        (
            *("dim", "size", "numel", "is_floating_point", "is_complex", "get_device"),
            *("sym_size", "sym_stride", "sym_numel", "sym_storage_offset", "sym_is_contiguous"),
            *("new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided"),
            *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
        ),
        ("self",),
    ),
    "_assert_tensor_metadata": ("a",),
    "to": ("other",),
}


def reader_of(view: CallView) -> Callable[[CallView], Reading | None] | None:
    """The reader of a call's operator, None where there is none."""
    if is_aten(view.node):
        return READERS.get(view.op)
    if not is_aten_call(view.node):
        return None
    return _OTHERS.get(operator_of(view.node).namespace, {}).get(view.op)


__all__ = ["NONLINEAR", "PRODUCTS", "READERS", "SHAPE_READS", "CallView", "Reading", "reader_of"]
