"""How an affine map passes each kind of node: one file a kind, each with a ``pull`` and a ``push``.

``pull(node, value, amap, walk)``: the output ``value`` of ``node`` shall become ``amap(value)``;
change ``node``, or ask `walk.pull` of its inputs for what makes it so.
``push(node, value, amap, walk)``: the input ``value`` of ``node`` will be replaced by what it was
before ``amap``; absorb the map, or ask `walk.push` of the outputs.
Both raise `Refused` where the result would not be exact.
"""

from __future__ import annotations

from types import ModuleType

from bnfold import graph as g
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
    g.Norm: norm,
    g.Affine: affine,
    g.Linear: linear,
    g.Movement: movement,
    g.Average: average,
    g.Mixture: mixture,
    g.Monotone: monotone,
    g.Homogeneous: opaque,
    g.Product: opaque,
    g.Sum: addition,
    g.Opaque: opaque,
}

__all__ = ["KINDS", "affine", "movement", "of"]


def of(node: g.Node) -> ModuleType:
    """The file that knows the kind of ``node``."""
    return KINDS[type(node.kind)]
