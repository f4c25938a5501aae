"""How much the outputs of the model moved over the sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.recalibration.batches import Batch, Batches
from bnfold.recalibration.observer import Observer, Piece
from bnfold.recalibration.processes import Processes

# Of how many samples the share of changed predictions is worth telling: to 6 % or better.
_ENOUGH_SAMPLES, _ONE_IN = 64, 3


@dataclass(frozen=True)
class OutputChange:
    """How one output moved over ``samples`` samples, in the Euclidean norm, relative to what it was.

    ``argmax_agreement`` is given where the output looks like class scores.
    """

    name: str
    relative_change: float
    argmax_agreement: float | None
    samples: int

    def to_json(self) -> dict[str, Any]:
        finite = np.isfinite(self.relative_change)
        return {
            "name": self.name,
            "relative_change": self.relative_change if finite else None,
            "argmax_agreement": self.argmax_agreement,
            "samples": self.samples,
        }


def output_names(observer: Observer) -> list[str]:
    """The graph outputs that nodes of the main graph compute."""
    nodes = (node for node in observer.graph.nodes if not node.scope)
    return [v.name for node in nodes for v in node.outputs if v.is_output]


class OutputChanges:
    """The outputs of the original, batch by batch, beside those with the new statistics.

    For the original's outputs the whole network runs once more, so not all batches are ``compared``.
    """

    def __init__(self, original: Observer, batches: Batches) -> None:
        self._original, self._batches = original, batches
        self.compared = compared_batches(len(batches), batches.samples)
        self._changes = {name: Change() for name in output_names(original)}
        self._piece: Piece | None = None

    def add(self, index: int, new: Mapping[str, NDArray[Any]]) -> None:
        """Runs the original on batch ``index`` and compares.

        Raises:
            DataError: where the data is not finite.
            RuntimeUnavailableError: where the model does not run.
        """
        batch = self._batches[index]
        if self._piece is None:
            types = {name: array.dtype for name, array in batch.feeds.items()}
            self._piece = self._original.piece(types, list(self._changes), ())
        old = self._piece.run(batch.feeds, {})
        for name, change in self._changes.items():
            change.add(valid_rows(old[name], batch), valid_rows(new[name], batch), batch.valid)

    def results(self, processes: Processes) -> tuple[OutputChange, ...]:
        """What all processes have found."""
        found = (change.result(name, processes) for name, change in self._changes.items())
        return tuple(c for c in found if c is not None)


def compared_batches(count: int, samples: int) -> frozenset[int]:
    """Which of ``count`` batches: one in three, the ends among them; more where these hold few samples."""
    enough = -(-_ENOUGH_SAMPLES * count // samples)
    some = min(count, max(2, enough, -(-count // _ONE_IN)))
    return frozenset(np.linspace(0, count - 1, some).astype(int).tolist())


def valid_rows(array: NDArray[Any], batch: Batch) -> NDArray[Any]:
    padded = batch.valid < batch.size and array.ndim and len(array) == batch.size
    return array[: batch.valid] if padded else array


class Change:
    """Sums for one output over the batches of this process."""

    def __init__(self) -> None:
        self.moved = self.was = 0.0
        self.same = self.rows = self.samples = 0
        self.like_scores = self.comparable = True

    def add(self, old: NDArray[Any], new: NDArray[Any], samples: int) -> None:
        self.samples += samples
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
            self.samples,
            not self.like_scores,
            not self.comparable,
        )
        moved, was, same, rows, samples, unlike, incomparable = processes.sum(
            np.array(own, np.float64)
        )
        if incomparable:
            return None
        with np.errstate(all="ignore"):
            change = float(np.sqrt(moved / was)) if moved else 0.0
        agreement = float(same / rows) if rows and not unlike else None
        change = float("inf") if np.isnan(change) else change
        return OutputChange(name, change, agreement, int(samples))
