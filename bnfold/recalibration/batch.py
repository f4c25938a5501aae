"""The batch method: averages of batch statistics (Ioffe & Szegedy, *Batch Normalization*, 2015, Algorithm 2).

Each mini-batch is normalised by its own statistics on its way through the network; the layer's mean
is the mean of the batch means, its variance m/(m - 1) times the mean of the (biased) batch variances.
Batches of unequal size are weighted by their number of samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.algebra.moments import Moments
from bnfold.algebra.rounding import cast
from bnfold.errors import DataError
from bnfold.recalibration.batches import Batch
from bnfold.recalibration.levels import Level
from bnfold.recalibration.observer import Piece, Population, Statistics
from bnfold.recalibration.reproducible_sums import SLOTS, Measured
from bnfold.recalibration.run import Recalibration, Run, problem_of

Activations = dict[str, NDArray[Any]]


def batch_statistics(run: Run) -> Recalibration:
    """Measures all batches, then settles all layers.

    Raises:
        DataError: where values are not finite (batch and layer are named), or too few.
        RuntimeUnavailableError: where the model does not run on the data.
    """
    averages = {p.name: _Averages(len(run.batches), p.norm.channels) for p in run.plan.populations}
    pieces: dict[int, Piece] = {}
    problem: str | None = None
    own = run.own
    samples = sum(map(run.batches.samples_in, own))
    for index in own:
        try:
            batch = run.batches[index]
        except DataError as error:  # all processes hear of it, below
            problem = problem or str(error)
            continue
        problem = problem or _forward(run, batch, pieces, averages)
        run.tell("measuring", index, samples)
    run.refuse(problem)
    new: dict[str, Statistics] = {}
    found: dict[str, Measured] = {}
    for population in run.plan.populations:
        average = averages[population.name]
        total = run.processes.sum(average.sums)
        half, whole = (_statistics(t) for t in (total[::2].sum(axis=0), total.sum(axis=0)))
        if whole is None:
            run.refuse(f"no batch holds 2 values per channel at {population.name}")
            continue
        new[population.name] = run.set(population, whole[0])
        half = half or whole
        found[population.name] = Measured(whole[1], half[1])
    return Recalibration(new, found)


def _forward(
    run: Run, batch: Batch, pieces: dict[int, Piece], averages: dict[str, _Averages]
) -> str | None:
    """One batch through all levels; returns what is wrong with its values, if anything is."""
    values: Activations = dict(batch.feeds)
    statistics: dict[str, Statistics] = {}
    for number, level in enumerate(run.plan.levels):
        values |= _piece_outputs(run, level, number, pieces, values, statistics)
        for population in level.populations:
            moments = _moments(batch, population, values)
            if not moments.is_finite:
                return problem_of(population, False, batch)
            averages[population.name].add(batch, moments)
            # The sizes of types bound what is normalised here as they do in a training framework.
            own = Statistics(
                moments.mean, cast(moments.variance(), population.norm.dtype).astype(np.float64)
            )
            statistics |= dict.fromkeys((n.name for n in population.nodes), own)
        values = {name: values[name] for name in level.kept}
    return None


def _piece_outputs(
    run: Run,
    level: Level,
    number: int,
    pieces: dict[int, Piece],
    values: Activations,
    statistics: dict[str, Statistics],
) -> Activations:
    if not level.computed:
        return {}
    feeds = {name: values[name] for name in level.inputs}
    if number not in pieces:
        types = {name: array.dtype for name, array in feeds.items()}
        pieces[number] = run.observer.piece(types, level.computed, level.nodes)
    return dict(pieces[number].run(feeds, statistics))


def _moments(batch: Batch, population: Population, values: Activations) -> Moments:
    norm = population.norm
    return Moments.merged(
        (batch.moments(values[v], norm, population.name).pooled() for v in population.values),
        norm.channels,
    )


class _Averages:
    """Sums over batches, in slots as in `slots.Slots`: weight, batches, values, mean, variance."""

    def __init__(self, batches: int, channels: int) -> None:
        self.sums = np.zeros((min(SLOTS, batches), 2 + 2 * channels))

    def add(self, batch: Batch, moments: Moments) -> None:
        """Adds a batch; one with a single value per channel has no variance and is left out."""
        if moments.count < 2:
            return
        unbiased = moments.variance(unbiased=True)
        entry = np.concatenate([[1.0, moments.count / batch.valid], moments.mean, unbiased])
        self.sums[batch.index % SLOTS] += entry * batch.valid


def _statistics(total: Array) -> tuple[Statistics, Moments] | None:
    """The weighted averages, and the same as moments for the report."""
    if not total[0]:
        return None
    count = round(float(total[1]))
    mean, variance = np.split(total[2:] / total[0], 2)
    return Statistics(mean, variance), Moments(count, mean, variance * count)
