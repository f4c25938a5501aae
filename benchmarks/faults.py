"""Faults that are planted in folds, and the count of those that the proof finds."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bnfold.constants import Constant
from bnfold.graph import Node
from bnfold.kinds import Affine, Linear
from bnfold.proof.verification import Verification

Array = NDArray[Any]
PLACES = ("reader", "planner", "writer")


def one_weight(by: float) -> Callable[[Array, np.random.Generator], Array]:
    def fault(array: Array, rng: np.random.Generator) -> Array:
        place = rng.choice(np.flatnonzero(array)) if np.any(array) else 0
        array.reshape(-1)[place] *= 1 + by
        return array

    return fault


def one_channel(array: Array, rng: np.random.Generator) -> Array:
    array[rng.integers(len(array))] *= 1 + 1e-3
    return array


def all_weights(array: Array, rng: np.random.Generator) -> Array:
    return np.asarray(array * (1 + 1e-4))


def swapped(array: Array, rng: np.random.Generator) -> Array:
    if len(array) > 1:
        a, b = rng.choice(len(array), 2, replace=False)
        array[[a, b]] = array[[b, a]]
    return array


def dropped(array: Array, rng: np.random.Generator) -> Array:
    return np.zeros_like(array)


def one_entry(array: Array, rng: np.random.Generator) -> Array:
    scale = float(np.abs(array).max()) or 1.0
    array.reshape(-1)[rng.integers(array.size)] += 1e-2 * scale
    return array


# What is wrong, and whether it happens to a weight or to a bias (a vector).
FAULTS: dict[str, tuple[Callable[[Array, np.random.Generator], Array], str]] = {
    "one weight by 1e-3": (one_weight(1e-3), "weight"),
    "one weight by 10 %": (one_weight(0.1), "weight"),
    "one channel by 1e-3": (one_channel, "weight"),
    "all weights by 1e-4": (all_weights, "weight"),
    "two channels swapped": (swapped, "weight"),
    "a bias dropped": (dropped, "bias"),
    "one bias entry by 1 %": (one_entry, "bias"),
}


@dataclass(frozen=True)
class Outcome:
    """``moved``: the largest change in units in the last place of the largest element."""

    found: bool
    moved: float


def spoilt(array: Array, fault: str, rng: np.random.Generator) -> tuple[Array, float]:
    """The array with a fault in it, and how far that moved it; 0 where it changed nothing."""
    wide = np.array(array, dtype=np.float64)
    result = FAULTS[fault][0](wide.copy(), rng).astype(array.dtype)
    change = np.abs(result.astype(np.float64) - wide)
    unit = float(np.finfo(np.float32 if array.dtype.itemsize == 4 else array.dtype).eps)
    peak = float(np.abs(wide).max()) or 1.0
    return result, float(change.max()) / (unit * peak)


def is_kind(array: Array, kind: str) -> bool:
    return (array.ndim > 1) == (kind == "weight") and array.size > 1


def parameters(node: Node) -> Iterator[Constant]:
    """The constants of a layer."""
    kind = node.kind
    if isinstance(kind, Linear):
        yield kind.weight
        if kind.bias is not None:
            yield kind.bias
    elif isinstance(kind, Affine) and kind.constant is not None:
        yield kind.constant


class Side(Protocol):
    """How faults are planted in one format."""

    def honest(self, path: Path) -> Verification | None:
        """The verdict on the fold as it is; None where it comes to none."""

    def planted(
        self, place: str, path: Path, fault: str, rng: np.random.Generator, folder: Path
    ) -> Outcome | None:
        """One fault at one place; None where it changes nothing."""

    def wrong_epsilon(self, path: Path, folder: Path) -> Outcome | None:
        """Every epsilon is read ten times too large."""


def tried(side: Side, name: str, path: Path, draws: int) -> tuple[Counter[str], list[str]]:
    """How many faults were planted and found, and what was missed."""
    counts: Counter[str] = Counter()
    missed: list[str] = []
    found = side.honest(path)
    if found is None or not found.passed:
        counts["refused"] += 1
        missed.append(f"{name}: the honest fold is refused")
    for place in PLACES:
        for fault in FAULTS:
            for draw in range(draws):
                rng = np.random.default_rng([draw, len(fault)])
                with scratch() as folder:
                    outcome = side.planted(place, path, fault, rng, folder)
                _count(counts, missed, f"{name}: {fault} in the {place}", place, outcome)
    with scratch() as folder:
        _count(
            counts, missed, f"{name}: epsilon times 10", "reader", side.wrong_epsilon(path, folder)
        )
    return counts, missed


def _count(
    counts: Counter[str], missed: list[str], what: str, place: str, outcome: Outcome | None
) -> None:
    if outcome is None:
        return
    counts[place] += 1
    counts[f"{place} found"] += outcome.found
    if not outcome.found:
        missed.append(f"{what}: moved by {outcome.moved:.3g} units in the last place of the peak")


def table(side: Side, networks: Iterable[tuple[str, Path]], draws: int) -> None:
    """Prints a row for each network, then what was missed; ends the process with 1 where anything was."""
    print("| network | honest fold | reader | planner | writer |\n|---|---|--:|--:|--:|")
    every: list[str] = []
    for name, path in networks:
        counts, missed = tried(side, name, path, draws)
        cells = [f"{counts[f'{p} found']} of {counts[p]}" for p in PLACES]
        verdict = "refused" if counts["refused"] else "passed"
        print(f"| {name} | {verdict} | {' | '.join(cells)} |", flush=True)
        every += missed
    print("\n".join(["", *sorted(Counter(every))]))
    sys.exit(bool(every))


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
