"""One input of a model, as its signature declares it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class InputSpec:
    """Name, element type (None: no tensor of numbers) and shape (None entries: any size)."""

    name: str
    dtype: np.dtype[Any] | None
    shape: tuple[int | None, ...] | None

    def describe(self) -> str:
        """How messages show it: ``image float32 [?, 3, 224, 224]``."""
        dims = (
            "?"
            if self.shape is None
            else ", ".join("?" if n is None else str(n) for n in self.shape)
        )
        return f"{self.name} {self.dtype or 'of unknown type'} [{dims}]"
