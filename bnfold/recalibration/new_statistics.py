"""The one edit that recalibration makes: new running mean and variance of a BatchNorm."""

from __future__ import annotations

from dataclasses import dataclass

from bnfold.algebra.affine import Array
from bnfold.graph import Node


@dataclass(frozen=True, eq=False)
class NewStatistics:
    """The `Norm` node ``node`` gets this running mean and running variance.

    Both have shape ``(C,)``, float64; the format's writer casts them into the type of the old ones.
    ``shared_with`` are the other calls of the same layer, which go on reading the same tensors.
    """

    node: Node
    mean: Array
    variance: Array
    shared_with: tuple[Node, ...] = ()
