"""Check after recalibration: what the written file computes is what was measured and stored.

The moments of a sample do not depend on the samples beside it. So after the population method a few
batches through the written file tell whether each layer meets there what it met when it was
measured; a layer that was given another's statistics, or measured behind others, differs on them.
The batch method promises no such agreement: there the whole sample is measured once more, to say how
far its statistics lie from those of the deployed network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.moments import Moments
from bnfold.algebra.rounding import is_half, unit_roundoff
from bnfold.progress import Progress
from bnfold.recalibration.batches import Batch, Batches
from bnfold.recalibration.observer import Observer, Piece, Population, Statistics
from bnfold.recalibration.output_change import (
    Change,
    OutputChange,
    output_names,
    valid_rows,
)
from bnfold.recalibration.processes import Processes
from bnfold.recalibration.reproducible_sums import Slots, measured, own_batches
from bnfold.recalibration.run import blend

# Float32 rounding moves statistics by 1e-6; a wrong layer or order moves them by far more.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 5e-2
_ACTIVATION_BYTES = 1 << 28
_ONE_IN = 16


@dataclass(frozen=True)
class SelfCheck:
    """What was measured and stored, beside what is measured in the written file.

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


@dataclass(eq=False)
class WholeCheck:
    """The check of the batch method: the sample through the original and the written model.

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
        changes = {name: Change() for name in output_names(self.before)}
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
                    moments = batch.moments(new[name], population.norm, population.name)
                    slots[population.name].add(index, moments)
            for name, change in changes.items():
                change.add(valid_rows(old[name], batch), valid_rows(new[name], batch), batch.valid)
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


@dataclass(eq=False)
class SubsetCheck:
    """The check of the population method: a few batches through the written file.

    ``noted`` are the moments that the method measured of these batches, ``new`` what it settled on.
    """

    written: Observer
    populations: Sequence[Population]
    batches: Batches
    processes: Processes
    progress: Progress
    noted: Mapping[tuple[str, int], Moments]
    new: Mapping[str, Statistics]
    rows: int

    def run(self) -> SelfCheck:
        """The layer that disagrees most.

        Raises:
            RuntimeUnavailableError: where the written model does not run.
        """
        stored = {node.name: node.kind for node in self.written.graph.norms}
        checks = [
            _compared(p, stored[node.name], self.new[p.name], expected=True)
            for p in self.populations
            for node in p.nodes
        ]
        own = own_batches(len(self.batches), self.processes.rank, self.processes.size)
        chosen = [i for i in own if i in checked_batches(len(self.batches))]
        errors = np.zeros((self.processes.size, len(self.populations), 2))
        piece: Piece | None = None
        for done, index in enumerate(chosen):
            batch = self.batches[index]
            computed = [n for n in dict.fromkeys(_values(self.populations)) if n not in batch.feeds]
            if computed and piece is None:
                types = {name: array.dtype for name, array in batch.feeds.items()}
                piece = self.written.piece(types, computed, ())
            found = self._moments(piece, batch)
            for place, population in enumerate(self.populations):
                error = _distance(population, self.noted[population.name, index], found[place])
                worst = errors[self.processes.rank, place]
                np.maximum(worst, error, out=worst)
            self.progress("checking", done + 1, len(chosen))
        worst_of_all = self.processes.sum(errors).max(axis=0)
        for population, (mean, variance) in zip(self.populations, worst_of_all, strict=True):
            checks.append(_check_of(population, float(mean), float(variance), expected=True))
        return max(checks, key=lambda c: max(c.mean_error, c.variance_error) / c.tolerance)

    def _moments(self, piece: Piece | None, batch: Batch) -> list[Moments]:
        """What reaches each layer, a few samples at a time: all activations are held at once."""
        found = [Moments.empty(p.norm.channels) for p in self.populations]
        for part in self._parts(batch):
            values = part.feeds | (dict(piece.run(part.feeds, {})) if piece else {})
            for place, population in enumerate(self.populations):
                found[place] = found[place].merge(population_moments(population, part, values))
        return found

    def _parts(self, batch: Batch) -> list[Batch]:
        """The batch itself where that fits into memory, or its rows are no samples by themselves."""
        if self.rows >= batch.size or self.batches.fixed or batch.masks:
            return [batch]
        starts = range(0, batch.size, self.rows)
        cuts = [{n: a[i : i + self.rows] for n, a in batch.feeds.items()} for i in starts]
        sizes = [min(self.rows, batch.size - i) for i in starts]
        return [
            replace(batch, feeds=cut, valid=n, size=n) for cut, n in zip(cuts, sizes, strict=True)
        ]


def _values(populations: Sequence[Population]) -> list[str]:
    """What is normalised anywhere."""
    return [value for population in populations for value in population.values]


def population_moments(
    population: Population, batch: Batch, values: Mapping[str, NDArray[Any]]
) -> Moments:
    """The moments of all that reaches a layer in one batch."""
    norm = population.norm
    several = (batch.moments(values[v], norm, population.name) for v in population.values)
    return Moments.merged((moments.pooled() for moments in several), norm.channels)


def checked_batches(count: int) -> frozenset[int]:
    """Which of ``count`` batches go through the written file: one in sixteen, the ends among them."""
    return frozenset(np.linspace(0, count - 1, max(2, -(-count // _ONE_IN))).astype(int).tolist())


def _distance(population: Population, noted: Moments, found: Moments) -> tuple[float, float]:
    """How far the same samples' moments lie apart; infinitely where they are not the same number."""
    if noted.count != found.count:
        return np.inf, np.inf
    if not noted.count:
        return 0.0, 0.0
    before, after = (Statistics(m.mean, m.variance()) for m in (noted, found))
    check = _compared(population, before, after, expected=True)
    return check.mean_error, check.variance_error


def _compared(
    population: Population, written: Any, observed: Statistics, expected: bool
) -> SelfCheck:
    variance = observed.variance + population.epsilon
    # A mean far from zero is stored to within its last place, whatever the deviation beside it.
    rounding = unit_roundoff(population.norm.dtype) * np.abs(observed.mean)
    distance = np.maximum(np.abs(written.mean - observed.mean) - rounding, 0.0)
    mean_error = float(np.max(distance / np.sqrt(variance)))
    variance_error = float(np.max(np.abs(written.variance - observed.variance) / variance))
    return _check_of(population, mean_error, variance_error, expected)


def _check_of(
    population: Population, mean_error: float, variance_error: float, expected: bool
) -> SelfCheck:
    tolerance = _HALF_TOLERANCE if is_half(population.norm.dtype) else _TOLERANCE
    # NaN would compare as neither larger nor smaller.
    mean, variance = (np.inf if np.isnan(e) else e for e in (mean_error, variance_error))
    return SelfCheck(population.name, mean, variance, tolerance, expected)


def proof_batch_size(size: int, values_per_sample: float, memory: int | None = None) -> int:
    """As many samples as keep all activations of a run within bounds, ``memory`` bytes say."""
    bound = _ACTIVATION_BYTES if memory is None else min(memory, _ACTIVATION_BYTES)
    return max(1, min(size, int(bound / (4 * max(values_per_sample, 1.0)))))
