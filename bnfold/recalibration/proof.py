"""After writing: stored and observed statistics agree, and how much the model's outputs changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.rounding import is_half, unit_roundoff
from bnfold.recalibration.batches import Batch, Batches
from bnfold.recalibration.observer import Observer, Piece, Population, Statistics
from bnfold.recalibration.run import Progress, blend
from bnfold.recalibration.slots import Slots, measured

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
    """One more pass over the sample with the original and the written model side by side."""

    before: Observer
    after: Observer
    populations: Sequence[Population]
    batches: Batches
    progress: Progress
    prior: float
    unbiased: bool
    expected: bool
    _changes: dict[str, _Change] = field(default_factory=dict)

    def run(self) -> tuple[SelfCheck, tuple[OutputChange, ...]]:
        """Both findings.

        Raises:
            RuntimeUnavailableError: where one of the models does not run.
        """
        slots = {p.name: Slots(len(self.batches), p.norm.channels) for p in self.populations}
        outputs = output_names(self.before)
        targets = list(dict.fromkeys(v for p in self.populations for v in p.values))
        pieces: tuple[Piece, Piece] | None = None
        done = 0
        for index in range(len(self.batches)):
            batch = self.batches[index]
            if pieces is None:
                types = {name: array.dtype for name, array in batch.feeds.items()}
                wanted = [n for n in dict.fromkeys((*targets, *outputs)) if n not in types]
                pieces = (
                    self.before.piece(types, outputs, ()),
                    self.after.piece(types, wanted, ()),
                )
            old = pieces[0].run(batch.feeds, {})
            new = {**batch.feeds, **pieces[1].run(batch.feeds, {})}
            for population in self.populations:
                for name in population.values:
                    moments = batch.moments(new[name], population.norm.axis, population.name)
                    slots[population.name].add(index, moments)
            for name in outputs:
                change = self._changes.setdefault(name, _Change())
                change.add(_valid(old[name], batch), _valid(new[name], batch))
            done += batch.valid
            self.progress("checking", done, self.batches.samples)
        changes = tuple(c.result(name) for name, c in self._changes.items())
        return self._check(slots), tuple(c for c in changes if c is not None)

    def _check(self, slots: dict[str, Slots]) -> SelfCheck:
        stored = {node.name: node.kind for node in self.after.graph.norms}
        checks = []
        for population in self.populations:
            found = measured(slots[population.name].packed()).whole
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
    """Sums for one output."""

    def __init__(self) -> None:
        self.moved = self.was = 0.0
        self.same: list[NDArray[np.bool_]] | None = []
        self.comparable = True

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
            self.same = None
        elif self.same is not None:
            self.same.append(a.argmax(axis=1) == b.argmax(axis=1))

    def result(self, name: str) -> OutputChange | None:
        """None for integers and the like, which have no size of a change."""
        if not self.comparable:
            return None
        with np.errstate(all="ignore"):
            change = float(np.sqrt(np.float64(self.moved) / np.float64(self.was)))
        change = 0.0 if not self.moved else change
        agreement = float(np.concatenate(self.same).mean()) if self.same else None
        return OutputChange(name, float("inf") if np.isnan(change) else change, agreement)
