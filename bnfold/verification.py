"""Proving that two models compute the same: end to end, and locally where that decides nothing.

The yardstick is measured, not chosen: see `algebra.comparison`. A format supplies a `Bench`, which
runs the original, the original with perturbed parameters, and the candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.comparison import OutputComparison, compare
from bnfold.algebra.rounding import unit_roundoff

Arrays = Mapping[str, NDArray[Any]]
DRAWS = 3


class Bench(Protocol):
    """What a format offers to compare two of its models on the same inputs."""

    runtime: str

    def reference(self, feeds: Arrays) -> Arrays:
        """The original's outputs."""

    def perturbed(self, feeds: Arrays, draw: int) -> Arrays:
        """The original's outputs with every parameter in question moved by one unit in its last
        place, a different pattern for each ``draw``."""

    def candidate(self, feeds: Arrays) -> Arrays:
        """The other model's outputs."""


class LocalBench(Bench, Protocol):
    """A bench on the pieces around each fold, cut out of both models."""

    def inputs(self, feeds: Arrays) -> Arrays:
        """What the original network feeds to the pieces, for inputs of the whole."""


@dataclass(frozen=True)
class Verification:
    """The outcome: ``outputs`` end to end, ``local`` by changed piece where that was needed."""

    passed: bool
    runtime: str
    outputs: tuple[OutputComparison, ...]
    local: tuple[OutputComparison, ...] | None
    inputs: str

    @property
    def first_wrong(self) -> str | None:
        """The first piece whose output is wrong, in the order of the network."""
        return next((o.name for o in self.local or () if not o.passed), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "runtime": self.runtime,
            "inputs": self.inputs,
            "outputs": [o.to_json() for o in self.outputs],
            "local": None if self.local is None else [o.to_json() for o in self.local],
            "first_wrong": self.first_wrong,
        }


def verify(
    bench: Bench,
    feeds: Sequence[Arrays],
    local: Callable[[], LocalBench | None],
    inputs: str,
) -> Verification:
    """Compares two models on ``feeds``.

    Args:
        bench: runs both.
        feeds: inputs, at least one set.
        local: gives the bench for local comparison, asked for only where the outputs prove
            nothing (rounding alone moves them further than the cap) or where they are wrong.
        inputs: where the inputs come from, for the report.
    """
    outputs = _compared(bench, feeds)
    passed = all(o.passed for o in outputs)
    undecided = not any(o.decided for o in outputs) or any(o.decided is False for o in outputs)
    pieces: tuple[OutputComparison, ...] | None = None
    if undecided or not passed:
        cut = local()
        if cut is not None:
            pieces = _compared(cut, [cut.inputs(f) for f in feeds])
    if passed and undecided:
        judged = [p for p in pieces or () if p.decided is not None]
        passed = bool(judged) and all(p.passed and p.decided for p in judged)
    return Verification(passed, bench.runtime, outputs, pieces, inputs)


def _compared(bench: Bench, feeds: Sequence[Arrays]) -> tuple[OutputComparison, ...]:
    references = [bench.reference(f) for f in feeds]
    candidates = [bench.candidate(f) for f in feeds]
    perturbed = [[bench.perturbed(f, draw) for draw in range(DRAWS)] for f in feeds]
    missing = [name for name in references[0] if name not in candidates[0]]
    assert not missing, missing
    return tuple(
        compare(
            name,
            [r[name] for r in references],
            [c[name] for c in candidates],
            [[draw[name] for draw in draws] for draws in perturbed],
        )
        for name in references[0]
    )


def perturb(array: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """``array * (1 + u)``, ``u`` uniform within one unit in the last place of its type."""
    u = rng.uniform(-1, 1, array.shape) * unit_roundoff(array.dtype)
    return np.asarray(array.astype(np.float64) * (1 + u), dtype=array.dtype)
