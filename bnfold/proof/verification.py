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
from bnfold.errors import UsageError

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

    def in_double(self, name: str, feeds: Arrays) -> PreciseRun | None:
        """The piece with output ``name`` in float64 for such inputs, None where that cannot be."""


@dataclass(frozen=True, eq=False)
class PreciseRun:
    """One piece in float64: the original's output, the other model's, and the original's with
    its parameters moved by one unit in the last place of their own type."""

    reference: NDArray[Any]
    candidate: NDArray[Any]
    perturbed: Sequence[NDArray[Any]]


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
    local: Callable[[], LocalBench | None] | None,
    inputs: str,
) -> Verification:
    """Compares two models on ``feeds``.

    End to end the error has to stay within a few rounding floors and under the cap. Where the
    floor itself is above the cap, or the error is under the cap yet above the floor (the runtime
    rounds long sums by more than their parameters do), each changed piece is proved by itself.

    Args:
        bench: runs both.
        feeds: inputs, at least one set.
        local: gives the bench for local comparison, where that is needed. None: there are no
            pieces; where the outputs decide nothing (integers, say), they have to be equal.
        inputs: where the inputs come from, for the report.
    """
    outputs = _compared(bench, feeds)
    passed = all(o.passed for o in outputs)
    undecided = not any(o.decided for o in outputs) or any(o.decided is False for o in outputs)
    if passed and not undecided:
        return Verification(True, bench.runtime, outputs, None, inputs)
    if local is None:
        equal = passed and all(o.decided or o.agreement == 1.0 for o in outputs)
        return Verification(equal, bench.runtime, outputs, None, inputs)
    cut = local()
    pieces = None if cut is None else _pieces(cut, feeds)
    judged = [p for p in pieces or () if p.decided is not None]
    proved = bool(judged) and all(p.passed and p.decided for p in judged)
    bearable = all(o.passed or o.max_abs_error <= o.cap for o in outputs)
    return Verification(proved and bearable, bench.runtime, outputs, pieces, inputs)


def _pieces(cut: LocalBench, feeds: Sequence[Arrays]) -> tuple[OutputComparison, ...]:
    """The pieces compared; those that differ once more in float64, where nothing is rounded but
    the parameters."""
    fed = [cut.inputs(f) for f in feeds]
    return tuple(
        each if each.passed else _in_double(cut, each, fed[0]) for each in _compared(cut, fed)
    )


def _in_double(cut: LocalBench, found: OutputComparison, feeds: Arrays) -> OutputComparison:
    run = cut.in_double(found.name, feeds) if found.max_abs_error <= found.cap else None
    if run is None:
        return found
    return compare(found.name, [run.reference], [run.candidate], [run.perturbed])


def _compared(bench: Bench, feeds: Sequence[Arrays]) -> tuple[OutputComparison, ...]:
    references = [bench.reference(f) for f in feeds]
    candidates = [bench.candidate(f) for f in feeds]
    perturbed = [[bench.perturbed(f, draw) for draw in range(DRAWS)] for f in feeds]
    if missing := [name for name in references[0] if name not in candidates[0]]:
        raise UsageError(
            f"the models return different outputs ({', '.join(references[0])} and "
            f"{', '.join(candidates[0])}; {missing[0]} is missing); "
            "only models with the same signature can be compared"
        )
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
