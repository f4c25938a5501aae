"""Check after recalibration: stored and observed statistics agree; and how much the outputs changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.rounding import is_half, unit_roundoff
from bnfold.recalibration.batches import Batch, Batches
from bnfold.recalibration.observer import Observer, Piece, Population, Statistics
from bnfold.recalibration.processes import Processes
from bnfold.recalibration.reproducible_sums import Slots, measured, own_batches
from bnfold.recalibration.run import Progress, blend

# Float32 rounding moves statistics by 1e-6; a wrong layer or order moves them by far more.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 5e-2
_ACTIVATION_BYTES = 1 << 28


@dataclass(frozen=True)
class SelfCheck:
    """The written statistics beside those measured in the written file, over the same sample.

    ``mean_error`` is in standard deviations, beyond the rounding of the stored mean itself;
    ``variance_error`` is relative; ``layer`` is where the
    larger of them was found. ``expected``: whether the method promises agreement.
    """

    layer: str
    mean_error: float
    variance_error: float
    tolerance: float
    expected: bool

    @property
    def agrees(self) -> bool:
        return max(self.mean_error, self.variance_error) <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "mean_error": self.mean_error,
            "variance_error": self.variance_error,
            "tolerance": self.tolerance,
            "agrees": self.agrees,
            "expected": self.expected,
        }


@dataclass(frozen=True)
class OutputChange:
    """How one output moved over the sample, in the Euclidean norm, relative to what it was.

    ``argmax_agreement`` is given where the output looks like class scores.
    """

    name: str
    relative_change: float
    argmax_agreement: float | None

    def to_json(self) -> dict[str, Any]:
        finite = np.isfinite(self.relative_change)
        return {
            "name": self.name,
            "relative_change": self.relative_change if finite else None,
            "argmax_agreement": self.argmax_agreement,
        }


@dataclass(eq=False)
class Proof:
    """One more pass over the sample with the original and the written model side by side.

    Every process of several takes its own batches, and all of them get the outcome.
    """

    before: Observer
    after: Observer
    populations: Sequence[Population]
    batches: Batches
    processes: Processes
    progress: Progress
    prior: float
    unbiased: bool
    expected: bool

    def run(self) -> tuple[SelfCheck, tuple[OutputChange, ...]]:
        """Both findings.

        Raises:
            RuntimeUnavailableError: where one of the models does not run.
        """
        slots = {p.name: Slots(len(self.batches), p.norm.channels) for p in self.populations}
        changes = {name: _Change() for name in output_names(self.before)}
        own = own_batches(len(self.batches), self.processes.rank, self.processes.size)
        total, done = sum(map(self.batches.samples_in, own)), 0
        pieces: tuple[Piece, Piece] | None = None
        for index in own:
            batch = self.batches[index]
            pieces = pieces or self._pieces(batch, list(changes))
            old = pieces[0].run(batch.feeds, {})
            new = {**batch.feeds, **pieces[1].run(batch.feeds, {})}
            for population in self.populations:
                for name in population.values:
                    moments = batch.moments(new[name], population.norm.axis, population.name)
                    slots[population.name].add(index, moments)
            for name, change in changes.items():
                change.add(_valid(old[name], batch), _valid(new[name], batch))
            done += batch.valid
            self.progress("checking", done, total)
        check = self._check(slots)
        found = (c.result(name, self.processes) for name, c in changes.items())
        return check, tuple(c for c in found if c is not None)

    def _pieces(self, batch: Batch, outputs: Sequence[str]) -> tuple[Piece, Piece]:
        types = {name: array.dtype for name, array in batch.feeds.items()}
        targets = (value for p in self.populations for value in p.values)
        wanted = [n for n in dict.fromkeys((*targets, *outputs)) if n not in types]
        return self.before.piece(types, outputs, ()), self.after.piece(types, wanted, ())

    def _check(self, slots: dict[str, Slots]) -> SelfCheck:
        stored = {node.name: node.kind for node in self.after.graph.norms}
        checks = []
        for population in self.populations:
            found = measured(self.processes.sum(slots[population.name].packed())).whole
            observed = blend(
                population.stored,
                Statistics(found.mean, found.variance(unbiased=self.unbiased)),
                self.prior,
                self.batches.samples,
            )
            for node in population.nodes:
                written: Any = stored[node.name]
                checks.append(_compared(population, written, observed, self.expected))
        return max(checks, key=lambda c: max(c.mean_error, c.variance_error) / c.tolerance)


def _compared(
    population: Population, written: Any, observed: Statistics, expected: bool
) -> SelfCheck:
    variance = observed.variance + population.epsilon
    half = is_half(population.norm.dtype)
    # A mean far from zero is stored to within its last place, whatever the deviation beside it.
    rounding = unit_roundoff(population.norm.dtype) * np.abs(observed.mean)
    distance = np.maximum(np.abs(written.mean - observed.mean) - rounding, 0.0)
    return SelfCheck(
        population.name,
        float(np.max(distance / np.sqrt(variance))),
        float(np.max(np.abs(written.variance - observed.variance) / variance)),
        _HALF_TOLERANCE if half else _TOLERANCE,
        expected,
    )


def output_names(observer: Observer) -> list[str]:
    """The graph outputs that nodes of the main graph compute."""
    nodes = (node for node in observer.graph.nodes if not node.scope)
    return [v.name for node in nodes for v in node.outputs if v.is_output]


def proof_batch_size(size: int, values_per_sample: float) -> int:
    """As many samples as keep all activations of a run within bounds."""
    return max(1, min(size, int(_ACTIVATION_BYTES / (4 * max(values_per_sample, 1.0)))))


def _valid(array: NDArray[Any], batch: Batch) -> NDArray[Any]:
    padded = batch.valid < batch.size and array.ndim and len(array) == batch.size
    return array[: batch.valid] if padded else array


class _Change:
    """Sums for one output over the batches of this process."""

    def __init__(self) -> None:
        self.moved = self.was = 0.0
        self.same = self.rows = 0
        self.like_scores = self.comparable = True

    def add(self, old: NDArray[Any], new: NDArray[Any]) -> None:
        floating = old.dtype.kind == "f" or "float" in old.dtype.name
        if not floating or old.shape != new.shape:
            self.comparable = False
            return
        a, b = old.astype(np.float64), new.astype(np.float64)
        with np.errstate(all="ignore"):
            self.moved += float(np.square(b - a).sum())
            self.was += float(np.square(a).sum())
        if a.ndim != 2 or a.shape[1] < 2:
            self.like_scores = False
        else:
            self.same += int((a.argmax(axis=1) == b.argmax(axis=1)).sum())
            self.rows += len(a)

    def result(self, name: str, processes: Processes) -> OutputChange | None:
        """None for integers and the like, which have no size of a change."""
        own = (
            self.moved,
            self.was,
            self.same,
            self.rows,
            not self.like_scores,
            not self.comparable,
        )
        moved, was, same, rows, unlike, incomparable = processes.sum(np.array(own, np.float64))
        if incomparable:
            return None
        with np.errstate(all="ignore"):
            change = float(np.sqrt(moved / was)) if moved else 0.0
        agreement = float(same / rows) if rows and not unlike else None
        return OutputChange(name, float("inf") if np.isnan(change) else change, agreement)
