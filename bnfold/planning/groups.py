"""Disjoint sets of values, joined step by step (union-find)."""

from __future__ import annotations

from bnfold.graph import Value


class Groups:
    """Disjoint sets of values."""

    def __init__(self) -> None:
        self._parent: dict[Value, Value] = {}

    def head(self, value: Value) -> Value:
        """The value that stands for the set of ``value``."""
        path = []
        while self._parent.get(value, value) is not value:
            path.append(value)
            value = self._parent[value]
        for each in path:
            self._parent[each] = value
        return value

    def join(self, values: list[Value]) -> None:
        first = self.head(values[0])
        for value in values[1:]:
            self._parent[self.head(value)] = first
