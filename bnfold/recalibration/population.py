"""The population method: the statistics of what reaches each layer in the deployed network.

Level by level (see `levels`): run the network from the frontier, where the last level ended,
to the inputs of this level's layers, measure, set, go on. The layers before are final when a level
is measured, so nothing is approximated. The outcome depends on the samples alone, not on how they
are batched, ordered or shared out.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from bnfold.algebra.moments import Moments
from bnfold.errors import DataError
from bnfold.recalibration.batches import Batch
from bnfold.recalibration.levels import Level
from bnfold.recalibration.observer import Piece, Population
from bnfold.recalibration.reproducible_sums import Measured, Slots, measured
from bnfold.recalibration.run import Recalibration, Run, problem_of
from bnfold.recalibration.self_check import checked_batches

Activations = dict[str, NDArray[Any]]


def population_statistics(run: Run) -> Recalibration:
    """Measures and settles all levels.

    Raises:
        DataError: where values are not finite (batch and layer are named), or too few.
        RuntimeUnavailableError: where the model does not run on the data.
    """
    new, found = {}, {}
    through = run.through
    total = sum(run.batches.samples_in(index) for indices in through for index in indices)
    for number, level in enumerate(run.plan.levels):
        results = _measure(run, number, through, total)
        for population, result in zip(level.populations, results, strict=True):
            found[population.name] = result
            new[population.name] = run.settle(population, result.whole)
    return Recalibration(new, found)


def _measure(run: Run, number: int, through: list[list[int]], total: int) -> list[Measured]:
    """The moments of one level's layers over the whole sample; ``total`` is for the progress."""
    level = run.plan.levels[number]
    slots = [Slots(len(run.batches), p.norm.channels) for p in level.populations]
    pieces, checked = _Pieces(run, number), checked_batches(len(run.batches))
    goes_on = {index for indices in through[number + 1 : number + 2] for index in indices}
    problem: str | None = None
    for index in through[number]:
        try:
            batch, values = pieces.activations(index)
            for population, slot in zip(level.populations, slots, strict=True):
                found = _pooled(batch, population, values, slot)
                problem = problem or problem_of(population, found.is_finite, batch)
                if index in checked:
                    run.noted[population.name, index] = found
        except DataError as error:  # all processes hear of it, below
            problem = problem or str(error)
            continue
        if not level.populations and run.outputs is not None:
            run.outputs.add(index, values)
        if level.kept and index in goes_on:
            run.cache.put(index, {name: values[name] for name in level.kept})
        run.tell("measuring", index, total)
    run.refuse(problem)
    return [measured(run.processes.sum(slot.packed())) for slot in slots]


def _pooled(batch: Batch, population: Population, values: Activations, slot: Slots) -> Moments:
    """The moments of one batch at all calls of a layer; those of its samples go into ``slot``."""
    norm = population.norm
    several = (batch.moments(values[v], norm, population.name) for v in population.values)
    return Moments.merged((slot.add(batch.index, m) for m in several), norm.channels)


class _Pieces:
    """The pieces that lead to one level: from the frontier, or from the model's inputs."""

    def __init__(self, run: Run, number: int) -> None:
        self._run, self._number = run, number
        self._level: Level = run.plan.levels[number]
        self._from_frontier: Piece | None = None
        self._from_inputs: Piece | None = None

    def activations(self, index: int) -> tuple[Batch, Activations]:
        """Batch ``index``, and the level's targets and kept values for it."""
        if self._number:
            held = self._run.cache.take(index)
            if held is not None:
                return self._run.batches.shell(index), held | self._forward(held)
        batch = self._run.batches[index]
        return batch, batch.feeds | self._whole(batch.feeds)

    def _forward(self, held: Activations) -> Activations:
        level = self._level
        if not level.computed:
            return {}
        feeds = {name: held[name] for name in level.inputs}
        if self._from_frontier is None:
            types = {name: array.dtype for name, array in feeds.items()}
            self._from_frontier = self._run.observer.piece(types, level.computed, level.nodes)
        return dict(self._from_frontier.run(feeds, self._run.settled))

    def _whole(self, feeds: Activations) -> Activations:
        level = self._level
        wanted = dict.fromkeys((*level.targets, *level.kept))
        computed = [name for name in wanted if name not in feeds]
        if not computed:
            return {}
        if self._from_inputs is None:
            types = {name: array.dtype for name, array in feeds.items()}
            self._from_inputs = self._run.observer.piece(types, computed, level.before)
        return dict(self._from_inputs.run(feeds, self._run.settled))
