"""Inner values for many pieces out of one run, so that the network does not run again for each piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from bnfold.formats.torch.run.inference import TorchReference
from bnfold.proof.subject import Arrays

_BYTES = 1 << 27


class Ahead:
    """Keeps what the coming pieces will ask for, within bounds. ``coming``: names for each of them."""

    def __init__(self, reference: TorchReference, limit: int = _BYTES) -> None:
        self.coming: Sequence[Sequence[str]] = []
        self._reference, self._limit = reference, limit
        self._feeds: Arrays = {}
        self._known: Mapping[str, NDArray[Any]] = {}

    def values(self, feeds: Arrays, names: Sequence[str]) -> Arrays:
        """Inner values by name. Raises as `Runner.values`."""
        if feeds is not self._feeds or any(name not in self._known for name in names):
            self._known = {}  # let go of, before there are others
            self._feeds, self._known = feeds, self._reference.values(feeds, self._next(names))
        return {name: self._known[name] for name in names}

    def _next(self, names: Sequence[str]) -> list[str]:
        """``names``, and what the pieces behind that one need, as much as is allowed."""
        found = dict.fromkeys(names)
        size = sum(map(self._size, found))
        place = next((i for i, own in enumerate(self.coming) if set(names) <= set(own)), None)
        for own in () if place is None else self.coming[place + 1 :]:
            more = [name for name in own if name not in found]
            size += sum(map(self._size, more))
            if size > self._limit:
                break
            found |= dict.fromkeys(more)
        return list(found)

    def _size(self, name: str) -> int:
        """Bytes, where the batch is as large as when the network was traced."""
        return self._reference.runner.size_of(name)
