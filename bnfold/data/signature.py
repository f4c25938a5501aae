"""What a model takes, as its signature declares it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class InputSpec:
    """Name, element type (None: no tensor of numbers) and shape (None entries: any size).

    ``optional``: it is read where the data has it, and not missed elsewhere. ``key``: what it is
    called in the dict that the network takes, which is what the data may call it.
    """

    name: str
    dtype: np.dtype[Any] | None
    shape: tuple[int | None, ...] | None
    optional: bool = False
    key: str | None = None

    def describe(self) -> str:
        """How messages show it: ``image float32 [?, 3, 224, 224]``."""
        dims = (
            "?"
            if self.shape is None
            else ", ".join("?" if n is None else str(n) for n in self.shape)
        )
        return f"{self.name} {self.dtype or 'of unknown type'} [{dims}]"


def by_key(inputs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The inputs under the names that they have in a dict."""
    return tuple(replace(spec, name=spec.key or spec.name) for spec in inputs)


def by_position(inputs: Sequence[InputSpec]) -> list[InputSpec]:
    """The inputs that arrays without a name go to: those that must be there, or else the first."""
    return [spec for spec in inputs if not spec.optional] or list(inputs[:1])


def takes_whole_calls(inputs: Sequence[InputSpec]) -> bool:
    """Whether the inputs have no common first axis that could count samples.

    So it is with recurrent states beside a signal (first axes 1 and 2, say), and with scalars. A
    sample is then everything that one call takes.
    """
    firsts = {spec.shape[:1] for spec in inputs if spec.shape is not None}
    fixed = firsts - {(None,)}
    return () in firsts or len(fixed) > 1 or (len(firsts) > 1 and fixed != {(1,)})


def samples_per_run(inputs: Sequence[InputSpec]) -> int | None:
    """How many samples every run of the model takes; None where any number will do."""
    if takes_whole_calls(inputs):
        return 1
    return next(
        (spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] is not None), None
    )


def row_specs(inputs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The inputs with a first axis that counts samples."""
    if not takes_whole_calls(inputs):
        return tuple(inputs)
    return tuple(
        spec if spec.shape is None else replace(spec, shape=(None, *spec.shape)) for spec in inputs
    )
