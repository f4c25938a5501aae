"""Small graphs with a known answer: what must become of every BatchNorm in them.

One file a family; each "folds" stands beside its nearest "must not". Tests and documentation share
the table.
"""

from __future__ import annotations

from situations import (
    affine,
    constants,
    gauges,
    keep,
    layers,
    linear,
    mixtures,
    movement,
    nested,
    quantised,
    routes,
    sequences,
    space,
    types,
)
from situations.build import Situation

SITUATIONS: tuple[Situation, ...] = (
    *linear.TABLE,
    *constants.TABLE,
    *quantised.TABLE,
    *types.TABLE,
    *keep.TABLE,
    *movement.TABLE,
    *sequences.TABLE,
    *routes.TABLE,
    *space.TABLE,
    *affine.TABLE,
    *nested.TABLE,
    *gauges.TABLE,
    *mixtures.TABLE,
    *layers.TABLE,
)
BY_NAME = {situation.name: situation for situation in SITUATIONS}
assert len(BY_NAME) == len(SITUATIONS), "two situations of one name"
