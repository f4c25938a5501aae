"""A listing: a model's file as plain data (operators with their attributes, tensors, names), to be compared.

Formats list the file that the user named and the file that was written, both as they are read from
disk; `congruence` compares the two lists without knowing a format.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.constants import Constant
from bnfold.graph import Node, Value


@dataclass(frozen=True, eq=False)
class Call:
    """One operator as a file lists it.

    ``inputs`` and ``outputs`` are names of values and tensors, made unique over all bodies; an
    absent one is None. ``settings`` is everything else that is written at the operator.
    """

    op: str
    name: str
    settings: Mapping[str, Hashable]
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Tensor:
    """One stored tensor; ``load`` brings its elements."""

    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], NDArray[Any]]

    def equals(self, other: Tensor) -> bool:
        """Whether type, shape and every bit agree."""
        if (self.shape, self.dtype) != (other.shape, other.dtype):
            return False
        return same_bits(self.load(), other.load())


@dataclass(frozen=True, eq=False)
class Listing:
    """All of a file. ``facts`` are what stands beside the operators: versions, metadata, signature.

    ``remarks`` (types noted for inner values, say) may go with what they speak of, but not change.
    """

    calls: tuple[Call, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    facts: Mapping[str, Hashable] = field(default_factory=dict)
    remarks: Mapping[str, Hashable] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Places:
    """Where the nodes and values of the neutral graph stand in the original's listing."""

    calls_of: Callable[[Node], tuple[int, ...]]
    name_of: Callable[[Value], str]
    # Operators that carrying out an edit may need: one that adds a bias, one that copies, one that
    # pads in front of a merged layer.
    adds: frozenset[str]
    copies: frozenset[str]
    pads: frozenset[str]
    # Settings that new parameters of an operator may change, or a merge of branches into it.
    adjustable: Callable[[str, bool], frozenset[str]]
    # Whether an operator may become another one by an edit.
    becomes: Callable[[str, str], bool]
    # The operator that takes a role (product, sum, depthwise) for a norm, of so many channels and of
    # that rank, and its settings.
    lowers_to: Callable[[Call, str, int, int], tuple[str, Mapping[str, Hashable]]]
    # Whether the writer leaves out operators that nothing reads.
    drops_unread: bool = False
    # The calls that make a quantised constant of what is stored.
    stored_at: Callable[[Constant], tuple[int, ...]] = lambda constant: ()


def made_of_tensors(listing: Listing) -> set[str]:
    """The values that nothing flows into but stored tensors."""
    found: set[str] = set()
    for call in listing.calls:
        known = all(n is None or n in listing.tensors or n in found for n in call.inputs)
        if known and not call.op.startswith("("):  # what flows into a body is not listed there
            found.update(call.outputs)
    return found


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays hold the same bits, NaN included."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    if a.dtype != b.dtype or a.size != b.size:
        return False
    if a.dtype == object:
        return bool((a == b).all())
    return bool(np.array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8)))
