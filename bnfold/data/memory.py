"""Data in memory: an array, a mapping of arrays by input name, or any iterable of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from bnfold.data.arrays import ArrayRows
from bnfold.data.callables import open_items
from bnfold.data.items import Items
from bnfold.data.signature import InputSpec
from bnfold.data.source import SampleOptions, Source
from bnfold.errors import DataError, UsageError

_FIRST = 2  # items, at least as many samples as a look at the data takes


class Given:
    """What a caller of the Python interface gave as data.

    An iterator can be gone through once. Its first items are kept, so that a network can be tried
    out on them before all is read.
    """

    def __init__(self, data: Any, name: str | None = None) -> None:
        """Raises a `UsageError` where it is no data; ``name`` is what messages call it."""
        if isinstance(data, str | bytes) or not (is_array(data) or isinstance(data, Iterable)):
            raise UsageError(
                f"data is a path, an array, a dict of arrays, or an iterable of batches, not "
                f"{type(data).__name__}"
            )
        self._data, self._name = data, name
        self._seen: list[Any] = []
        self._spent = False

    def __str__(self) -> str:
        return self._name or f"the {type(self._data).__name__} given as data"

    def open(self, inputs: Sequence[InputSpec], options: SampleOptions) -> Source:
        """The rows of it; see `Source`.

        Raises:
            DataError: where it holds nothing for an input, or its own code fails.
        """
        where = str(self)
        if is_array(self._data) or isinstance(self._data, Mapping):
            items = Items(inputs, where)
            rows = ArrayRows(items.arrays(self._data), inputs, where)
            rows.left_out = items.left_out
            return rows
        try:
            return open_items(self._items(), inputs, options, where)
        except (DataError, UsageError, KeyboardInterrupt):
            raise
        except Exception as error:  # whatever the user's code raises
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DataError(f"{where} failed: {what}") from error

    def _items(self) -> Iterator[Any]:
        if not isinstance(self._data, Iterator):
            return iter(self._data)
        if self._spent:
            raise UsageError(f"{self} has been read to its end already; give a list or a loader")
        return chain(list(self._seen), self._rest())

    def _rest(self) -> Iterator[Any]:
        assert isinstance(self._data, Iterator)
        for item in self._data:
            if len(self._seen) < _FIRST:
                self._seen.append(item)
            else:
                self._spent = True
            yield item


def is_array(data: Any) -> bool:
    """Whether it is one array, a torch tensor included."""
    return isinstance(data, np.ndarray) or hasattr(data, "detach")
