"""What user code yields, a batch or a sample at a time: an array, a tuple, or a mapping by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data.signature import InputSpec, by_position
from bnfold.errors import DataError

Named = dict[str, NDArray[Any]]


class Items:
    """Reads items for a model's inputs, and notes which of their names no input has."""

    def __init__(self, inputs: Sequence[InputSpec], where: str) -> None:
        """Prepares it; ``where`` is how messages name the source."""
        self._inputs, self._where = inputs, where
        self._names = {spec.name for spec in inputs}
        self._unnamed = by_position(inputs)
        self._left_out: dict[str, None] = {}
        # How many arrays of a tuple no input took.
        self.surplus = 0

    @property
    def left_out(self) -> tuple[str, ...]:
        return tuple(self._left_out)

    def all(self, produced: Any) -> Iterator[Named]:
        """The items of whatever user code made: an iterable of them, or a single one.

        Raises:
            DataError: where it is neither.
        """
        if isinstance(produced, np.ndarray | Mapping) or hasattr(produced, "numpy"):
            produced = [produced]
        if not isinstance(produced, Iterable) or isinstance(produced, str | bytes):
            kind = type(produced).__name__
            raise DataError(f"{self._where} returned {kind}; yield arrays instead")
        return map(self.arrays, produced)

    def arrays(self, item: Any) -> Named:
        """Arrays by name; those of a tuple stand in the order of the inputs, labels behind them.

        Raises:
            DataError: where it holds no numbers for an input.
        """
        if isinstance(item, Mapping):
            return self._by_key(item)
        if isinstance(item, tuple | list):
            return self._by_position(item)
        return {self._unnamed[0].name if len(self._unnamed) == 1 else "": self._array("", item)}

    def _by_position(self, item: Sequence[Any]) -> Named:
        if len(item) < len(self._unnamed):
            raise DataError(
                f"{self._where} yields {len(item)} arrays, but the model has "
                f"{len(self._unnamed)} inputs"
            )
        self.surplus = max(self.surplus, len(item) - len(self._unnamed))
        pairs = zip(self._unnamed, item, strict=False)
        return {spec.name: self._array(spec.name, value) for spec, value in pairs}

    def _by_key(self, item: Mapping[Any, Any]) -> Named:
        # Absent is what `None` says everywhere in such batches.
        given = {str(key): value for key, value in item.items() if value is not None}
        if any(key in self._names for key in given):
            others = [key for key in given if key not in self._names]
            self._left_out |= dict.fromkeys(others)
            return {k: self._array(k, v) for k, v in given.items() if k in self._names}
        return {k: self._array(k, v) for k, v in given.items() if is_numeric(v)}

    def _array(self, name: str, value: Any) -> NDArray[Any]:
        try:
            array = as_array(value, self._where)
        except DataError as error:
            raise DataError(f"{error} (for {name})" if name else str(error)) from None
        if not array.ndim and name and self._shape_unknown(name):
            raise DataError(
                f"{self._where} yields a single number for {name}, which is no batch; set such an "
                "option in the network itself, or leave it out of the batch"
            )
        return array

    def _shape_unknown(self, name: str) -> bool:
        return any(spec.name == name and spec.shape is None for spec in self._inputs)


def as_array(value: Any, where: str) -> NDArray[Any]:
    """A NumPy array from what has one: arrays, torch tensors, numbers.

    Raises:
        DataError: where it holds no numbers.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy knows no such type
            value = value.float()
        value = value.numpy()
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        array = np.empty((), object)
    if array.dtype.kind not in "fiub" and "float" not in array.dtype.name:
        raise DataError(f"{where} yields {type(value).__name__}, which holds no numbers")
    return array


def is_numeric(value: Any) -> bool:
    return hasattr(value, "dtype") or isinstance(value, int | float)
