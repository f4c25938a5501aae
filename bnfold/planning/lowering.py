"""`--rest`: a BatchNorm that has to stay, written with operators that every backend has.

That is no fold: the network computes as much as before. It is a product and a sum with a constant for
each channel, or a depthwise convolution of one element, for backends that refuse BatchNormalization.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

import numpy as np

from bnfold.graph import Graph, Node
from bnfold.kinds import Norm
from bnfold.planning.forms import Lower
from bnfold.planning.kinds import norm
from bnfold.planning.ledger import Ledger, check_vector
from bnfold.planning.reasons import Refused

_CONVOLVED_RANKS = (3, 4, 5)


class Rest(str, Enum):  # `bnfold.cli.options.RestForm` is the same for the command line
    """In which form a BatchNorm is left that cannot go."""

    KEEP = "keep"
    AFFINE = "affine"
    DEPTHWISE = "depthwise"


def lowered(node: Node, graph: Graph, ledger: Ledger, rest: Rest) -> Lower | None:
    """The norm in the form that is asked for, with all that it has absorbed.

    Where a convolution is no operator for a value of that rank or type, it is a product and a sum.
    None where the norm is no constant map, where its shape is not known, or where its parameters
    have another number type than its values.
    """
    kind, rank = node.kind, graph.rank(node.inputs[0])
    assert isinstance(kind, Norm)
    if rest is Rest.KEEP or not kind.lowers() or rank is None or rank <= kind.axis:
        return None
    try:
        norm.check_source(node)
        scale, shift = norm.vectors(node, ledger)
        for vector in (scale, shift):
            check_vector(vector, kind.dtype, node.label)
    except Refused:
        return None
    form: Literal["affine", "depthwise"] = "affine"
    if rest is Rest.DEPTHWISE and _convolves(kind, rank):
        form = "depthwise"
    return Lower(node, form, scale, shift, rank)


def _convolves(kind: Norm, rank: int) -> bool:
    """Whether runtimes have a convolution for it; onnxruntime has none of doubles."""
    return kind.axis == 1 and rank in _CONVOLVED_RANKS and kind.dtype != np.float64
