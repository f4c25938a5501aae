"""Small graphs with a known answer: what must become of every BatchNorm in them.

One file a family; each "folds" stands beside its nearest "must not". Tests and documentation share
the table.
"""

from __future__ import annotations

import situations_affine
import situations_constants
import situations_keep
import situations_linear
import situations_movement
import situations_nested
import situations_routes
import situations_sequences
import situations_space
import situations_types
from situations_build import Situation

SITUATIONS: tuple[Situation, ...] = (
    *situations_linear.TABLE,
    *situations_constants.TABLE,
    *situations_types.TABLE,
    *situations_keep.TABLE,
    *situations_movement.TABLE,
    *situations_sequences.TABLE,
    *situations_routes.TABLE,
    *situations_space.TABLE,
    *situations_affine.TABLE,
    *situations_nested.TABLE,
)
BY_NAME = {situation.name: situation for situation in SITUATIONS}
assert len(BY_NAME) == len(SITUATIONS), "two situations of one name"
