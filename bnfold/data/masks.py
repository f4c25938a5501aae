"""Which frames of a padded sample count: masks by the name of an array in the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data.signature import InputSpec
from bnfold.errors import DataError

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Mask:
    """One array of the data. A frame counts where it is not 0; with ``padding``, where it is 0."""

    name: str
    padding: bool = False

    def flags(self, array: NDArray[Any]) -> Flags:
        """Whether each frame counts: shape ``(samples, frames)``, or more axes than one for those.

        Raises:
            DataError: where the array has no such shape.
        """
        shape = array.shape[:1] + tuple(n for n in array.shape[1:] if n != 1)
        if len(shape) < 2:
            raise DataError(
                f"{self.name} has shape {list(array.shape)} and cannot be a mask; give one with an "
                "entry for every frame"
            )
        flags: Flags = (array == 0) if self.padding else (array != 0)
        return flags.reshape(shape)

    @property
    def rule(self) -> str:
        """Which frames do not count, in words."""
        return f"{self.name} is not 0" if self.padding else f"{self.name} is 0"


def with_masks(inputs: Sequence[InputSpec], masks: Sequence[Mask]) -> tuple[InputSpec, ...]:
    """The inputs, and behind them the masks that are none of them."""
    names = {spec.name for spec in inputs}
    extra = (m.name for m in masks if m.name not in names)
    return (*inputs, *(InputSpec(name, None, None, True) for name in dict.fromkeys(extra)))


def looks_like_a_mask(spec: InputSpec) -> bool:
    """Whether an input is most likely a padding mask: by its name, as nothing else tells."""
    per_frame = spec.shape is None or len(spec.shape) > 1
    return per_frame and "mask" in spec.name.lower()


def padded(flags: Flags, rows: int) -> Flags:
    """``flags`` with rows behind them that do not count, ``rows`` in all."""
    missing = rows - len(flags)
    return np.concatenate([flags, np.zeros((missing, *flags.shape[1:]), np.bool_)])
