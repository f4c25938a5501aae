"""What a format provides for the proof: its models as they run, and the changed subgraphs (pieces).

Everything on the original's side comes from the file that the user named; nothing that bnfold
computed from it stands there. Everything on the written side is read back from disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bnfold.proof.congruence import Congruence
from bnfold.proof.regions import Region

Arrays = Mapping[str, NDArray[Any]]


class Runs(Protocol):
    """A model file with named outputs."""

    runtime: str

    def outputs(self, feeds: Arrays) -> Arrays:
        """The outputs by name, for inputs by name.

        Raises:
            RuntimeUnavailableError: where the runtime does not load or run the model.
        """

    def release(self) -> None:
        """Lets go of what it holds loaded; it is loaded again when it is needed."""


class Reference(Runs, Protocol):
    """The model to trust. Its parameters can be moved."""

    def perturbed(self, feeds: Arrays, draw: int) -> Arrays:
        """The outputs with every parameter in question moved by one unit in its last place, a
        different pattern for each ``draw``. Raises as `Runs.outputs`."""


@dataclass(frozen=True)
class Fed:
    """One value that enters a piece.

    ``value`` is its name in the original, None where it cannot be observed (inside a body): then
    ``shape`` says what to make up.
    """

    key: str
    value: str | None
    shape: tuple[int, ...] | None
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Leaving:
    """One value that leaves a piece: ``shown`` in reports, ``axis`` its channels."""

    key: str
    value: str | None
    shown: str
    axis: int


@dataclass(frozen=True, eq=False)
class PreciseRun:
    """One value of a piece in float64: the original's, the written model's, and the original's with
    its parameters moved by one unit in the last place of their own type ``dtype``."""

    reference: NDArray[Any]
    candidate: NDArray[Any]
    perturbed: Sequence[NDArray[Any]]
    dtype: np.dtype[Any]


@dataclass(frozen=True, eq=False)
class Exported:
    """A file that another exporter has written anew.

    ``names``: what it calls the inner values of the original that no edit changes. ``values`` gives
    those of its inner values that are asked for by its own names, for inputs of the whole.
    """

    names: Mapping[str, str]
    values: Callable[[Arrays, Sequence[str]], Arrays]


class Piece(Protocol):
    """Some regions, cut out of both files at their borders."""

    @property
    def inputs(self) -> Sequence[Fed]: ...
    @property
    def outputs(self) -> Sequence[Leaving]: ...

    @property
    def hides(self) -> bool:
        """Whether something inside it may show only a part of what enters it."""

    def alone(self) -> Reference:
        """The original as a whole, of which only the parameters of this piece can be moved."""

    def original(self, feeds: Arrays, draw: int | None = None) -> Arrays:
        """The original's values by key; with moved parameters where ``draw`` is given."""

    def written(self, feeds: Arrays) -> Arrays:
        """The written model's values by key."""

    def moved(self, leaving: Leaving, feeds: Arrays, draws: int) -> list[NDArray[Any]]:
        """One of the original's values, its parameters moved in several draws."""

    def in_double(self, leaving: Leaving, feeds: Arrays, draws: int) -> PreciseRun | None:
        """One value in float64, None where that cannot be had."""


class Fold(Protocol):
    """An original file, a plan, and the file that was written."""

    @property
    def reference(self) -> Reference: ...
    @property
    def candidate(self) -> Runs: ...

    @property
    def named_outputs(self) -> Sequence[str]:
        """The outputs that `values` knows by the names that `Runs.outputs` gives them."""

    def congruence(self) -> Congruence:
        """Whether the written file is the original plus the plan."""

    def values(self, feeds: Arrays, names: Sequence[str]) -> Arrays:
        """Inner values of the original, for inputs of the whole."""

    def exported(self, names: Mapping[str, str]) -> Exported | None:
        """The inner values of a written file whose pieces cannot be cut out of it; None where they
        can.

        Args:
            names: as for `pieces`.
        """

    def pieces(self, regions: Sequence[Region], names: Mapping[str, str]) -> Sequence[Piece]:
        """The regions cut out of both files.

        Args:
            regions: what the plan changes.
            names: which value of the written file stands for which of the original.
        """
