"""How an affine map passes each kind of node: one file a kind, each with a ``pull`` and a ``push``.

``pull(node, value, amap, walk)``: the output ``value`` of ``node`` shall become ``amap(value)``;
change ``node``, or ask `walk.pull` of its inputs for what makes it so.
``push(node, value, amap, walk)``: the input ``value`` of ``node`` will be replaced by what it was
before ``amap``; absorb the map, or ask `walk.push` of the outputs.
Both raise `Refused` where the result would not be exact.
"""

from __future__ import annotations

from types import ModuleType

from bnfold import kinds as k
from bnfold.graph import Node
from bnfold.planning.kinds import (
    addition,
    affine,
    average,
    linear,
    mixture,
    monotone,
    movement,
    norm,
    opaque,
)

KINDS: dict[type, ModuleType] = {
    k.Norm: norm,
    k.Affine: affine,
    k.Linear: linear,
    k.Movement: movement,
    k.Average: average,
    k.Mixture: mixture,
    k.Monotone: monotone,
    k.Homogeneous: opaque,
    k.Product: opaque,
    k.Sum: addition,
    k.Opaque: opaque,
}

__all__ = ["KINDS", "affine", "movement", "of"]


def of(node: Node) -> ModuleType:
    """The file that knows the kind of ``node``."""
    return KINDS[type(node.kind)]
