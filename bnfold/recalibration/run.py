"""What both recalibration methods work with: model, sample, and how measurements become statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bnfold.algebra.moments import Moments
from bnfold.algebra.rounding import cast, overflows
from bnfold.errors import DataError
from bnfold.progress import Progress, no_progress
from bnfold.recalibration.batches import Batch, Batches
from bnfold.recalibration.cache import ActivationCache
from bnfold.recalibration.levels import LevelPlan
from bnfold.recalibration.observer import Observer, Population, Statistics
from bnfold.recalibration.output_change import OutputChanges
from bnfold.recalibration.processes import Processes
from bnfold.recalibration.reproducible_sums import Measured, own_batches


@dataclass(frozen=True, eq=False)
class Recalibration:
    """The outcome: new statistics, and what they were made from, by layer name."""

    new: Mapping[str, Statistics]
    measured: Mapping[str, Measured]
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class Run:
    """One recalibration in progress.

    ``unbiased``: store m2/(count - 1); ``prior``: how many samples the old statistics are worth.
    """

    observer: Observer
    plan: LevelPlan
    batches: Batches
    processes: Processes
    cache: ActivationCache
    unbiased: bool = False
    prior: float = 0.0
    progress: Progress = no_progress
    settled: dict[str, Statistics] = field(default_factory=dict)
    done: int = 0
    # For the check: the moments of a few batches, by layer and batch, and the model's outputs.
    noted: dict[tuple[str, int], Moments] = field(default_factory=dict)
    outputs: OutputChanges | None = None

    @property
    def own(self) -> list[int]:
        return own_batches(len(self.batches), self.processes.rank, self.processes.size)

    @property
    def through(self) -> list[list[int]]:
        """The batches of this process that go through each level: all where layers are measured; in
        a last level that measures nothing, those whose outputs are compared."""
        compared = self.outputs.compared if self.outputs is not None else ()
        some = [index for index in self.own if index in compared]
        return [self.own if level.populations else some for level in self.plan.levels]

    def tell(self, stage: str, index: int, total: int) -> None:
        """Reports one more batch done, out of ``total`` samples (times levels)."""
        self.done += self.batches.samples_in(index)
        self.progress(stage, self.done, total)

    def settle(self, population: Population, measured: Moments) -> Statistics:
        """Blends a measurement with the old statistics and notes it for the pieces to come.

        Raises:
            DataError: where there are too few values, or the outcome does not fit the type.
        """
        if measured.count < 2:
            raise DataError(
                f"{population.name} sees {measured.count} value per channel in the whole sample, "
                "which has no variance; give at least 2 samples"
            )
        found = Statistics(measured.mean, measured.variance(unbiased=self.unbiased))
        return self.set(population, found)

    def set(self, population: Population, found: Statistics) -> Statistics:
        """`settle` for statistics that are known already."""
        blended = blend(population.stored, found, self.prior, self.batches.samples)
        dtype = population.norm.dtype
        if overflows(np.concatenate([blended.mean, blended.variance]), dtype):
            raise DataError(
                f"the statistics measured at {population.name} do not fit its type {dtype}; "
                "scale the inputs as in training, or keep the statistics in float32"
            )
        # What is measured behind this layer has to be what the written file will compute.
        stored = Statistics(
            cast(blended.mean, dtype).astype(np.float64),
            cast(blended.variance, dtype).astype(np.float64),
        )
        self.settled |= dict.fromkeys((node.name for node in population.nodes), stored)
        return stored

    def refuse(self, problem: str | None) -> None:
        """Raises what any process found, on all of them.

        Raises:
            DataError: with the first one's message.
        """
        message = self.processes.first(problem)
        if message is not None:
            raise DataError(message)


def blend(old: Statistics, new: Statistics, prior: float, samples: int) -> Statistics:
    """``N/(N+n)`` of the old and ``n/(N+n)`` of the new statistics.

    Source: Schneider et al., *Improving robustness against common corruptions by covariate shift
    adaptation*, NeurIPS 2020, equation 3; with N = 0 the new ones.
    """
    if not prior:
        return new
    weight = prior / (prior + samples)
    return Statistics(
        weight * old.mean + (1 - weight) * new.mean,
        weight * old.variance + (1 - weight) * new.variance,
    )


def problem_of(population: Population, moments_finite: bool, batch: Batch) -> str | None:
    """The sentence on values that are no numbers: the batch, and the layer they reach first."""
    if moments_finite:
        return None
    return (
        f"batch {batch.index + 1} gives NaN or infinite values at {population.name}, the first "
        "layer that they reach, though the data itself is finite; check its scale and the weights "
        "before that layer"
    )
