"""Correspondence: which value of the written file stands for which of the original, and which stored
tensors of both were compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bnfold.proof.expected import Expected
from bnfold.proof.listing import Tensor


class Values:
    """The values of the written file by those of the original; grows as the files are walked.

    ``moved``: a value that the plan bypasses, and the one that stands for it from then on.
    """

    def __init__(self, moved: Mapping[str, str]) -> None:
        self.moved = moved
        self.written: dict[str, str] = {}
        self.original: dict[str, str] = {}
        self.copied: dict[str, str] = {}
        self.padded: dict[str, str] = {}

    def stand(self, ours: str, theirs: str) -> None:
        """From here on ``theirs`` stands for ``ours``."""
        self.written[ours] = theirs
        self.original[theirs] = ours

    def seen(self, theirs: str) -> str:
        """What a value of the written file is a copy of."""
        while theirs in self.copied:
            theirs = self.copied[theirs]
        return theirs

    def now(self, ours: str) -> str:
        """The original value that stands for ``ours`` once the bypassed operators are gone."""
        passed = set()
        while ours in self.moved and ours not in passed:
            passed.add(ours)
            ours = self.moved[ours]
        return ours

    def standing(self, ours: str) -> set[str]:
        """The written values that may be read for ``ours``; empty where it is no value (yet)."""
        found = (self.written.get(self.now(ours)), self.written.get(ours))
        return {self.seen(name) for name in found if name is not None}

    def names(self) -> dict[str, str]:
        """The written value for each original one, bypassed ones included."""
        bypassed = {name: self.written.get(self.now(name)) for name in self.moved}
        return {**{name: now for name, now in bypassed.items() if now is not None}, **self.written}


class Tensors:
    """The stored tensors of both files, and which of the written ones were accounted for."""

    def __init__(self, original: Mapping[str, Tensor], written: Mapping[str, Tensor]) -> None:
        self.original, self.written = original, written
        self.compared: set[str] = set()

    def take(self, name: str, computed: Iterable[Expected]) -> bool:
        """Whether a written tensor holds something that the plan computed."""
        tensor = self.written.get(name)
        if tensor is None:
            return False
        # Two may hold the same elements; each has to be there.
        for expected in sorted(computed, key=lambda e: e.found):
            if expected.is_in(tensor):
                expected.found = True
                self.compared.add(name)
                return True
        return False

    def same(self, name: str) -> bool:
        """Whether a tensor stands in both files with the same bits, or in neither."""
        ours, theirs = self.original.get(name), self.written.get(name)
        if ours is None or theirs is None:
            return ours is theirs
        if name in self.compared:
            return True
        self.compared.add(name)
        return ours.equals(theirs)
