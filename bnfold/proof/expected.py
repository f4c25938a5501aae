"""What the written file should hold after a plan's edits: operators that go, and every new tensor.

All in the terms of the original's `listing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

from numpy.typing import NDArray

from bnfold.algebra.rounding import cast
from bnfold.constants import Constant
from bnfold.kinds import Affine, Norm
from bnfold.planning.decision import (
    Bypass,
    DropAddends,
    MergeBranches,
    Plan,
    Reconstant,
    Renorm,
    Requantise,
    Revalue,
    Reweight,
)
from bnfold.planning.forms import Lower
from bnfold.proof.listing import Places, Tensor, same_bits


@dataclass(eq=False)
class Expected:
    """Elements that the plan computed; ``load`` computes them again, so that few are held at once."""

    dtype: str
    size: int
    load: Callable[[], NDArray[Any]]
    found: bool = False
    shape: tuple[int, ...] | None = None  # where that matters

    def is_in(self, tensor: Tensor) -> bool:
        if self.shape is not None and self.shape != tensor.shape:
            return False
        if (self.dtype, self.size) != (tensor.dtype, prod(tensor.shape)):
            return False
        return same_bits(self.load(), tensor.load())


@dataclass(frozen=True, eq=False)
class Lowered:
    """A norm that other operators stand for: the first of them, and the tensors that this one reads.

    ``role`` is ``product``, ``sum`` or ``depthwise``. A sum behind a product is told from an added
    bias by nothing.
    """

    role: str
    channels: int
    rank: int
    reads: tuple[Expected, ...]


@dataclass(eq=False)
class Changes:
    """What a plan does, in the words of the original's listing."""

    gone: set[int] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)  # a bypassed value -> what stands for it
    expected: dict[int, list[Expected]] = field(default_factory=dict)
    merged: set[int] = field(default_factory=set)
    dropped: dict[int, set[str]] = field(default_factory=dict)
    revalued: dict[str, Expected] = field(default_factory=dict)  # constants that flow like values
    lowered: dict[int, Lowered] = field(default_factory=dict)
    flows: set[str] = field(default_factory=set)  # what edited nodes compute on


def changes_of(plan: Plan, places: Places) -> Changes:
    """What the edits of a plan come to in the original's listing."""
    changes = Changes()
    for edit in plan.edits:
        calls = places.calls_of(edit.node)
        changes.flows.update(places.name_of(v) for v in edit.node.inputs if v.constant is None)
        if isinstance(edit, Bypass):
            changes.gone.update(calls)
            changes.moved[places.name_of(edit.node.outputs[0])] = places.name_of(edit.source)
        elif isinstance(edit, MergeBranches):
            for node in edit.gone:
                changes.gone.update(places.calls_of(node))
            changes.expected.setdefault(calls[0], [])
            changes.merged.add(calls[0])
        elif isinstance(edit, DropAddends):
            changes.dropped[calls[0]] = {places.name_of(v) for v in edit.values}
            changes.expected.setdefault(calls[0], [])
        elif isinstance(edit, Lower):
            arrays = [_shaped(a) for a in (edit.factor, edit.summand) if a is not None]
            changes.expected.setdefault(calls[0], []).extend(arrays)
            changes.lowered[calls[0]] = _lowered(edit, arrays)
        elif isinstance(edit, Requantise):
            stored = list(_stored(edit))
            for call in places.stored_at(edit.constant):
                changes.expected.setdefault(call, []).extend(stored)
        else:
            arrays = list(_arrays_of(edit))
            if isinstance(edit, Revalue):
                changes.revalued[places.name_of(edit.value)] = arrays[0]
            for call in calls:  # a bias may stand at the second
                changes.expected.setdefault(call, []).extend(arrays)
    return changes


def _arrays_of(edit: Reweight | Reconstant | Renorm | Revalue) -> Iterator[Expected]:
    """The elements that an edit computes, in their final type."""
    if isinstance(edit, Reweight):
        weight = edit.kind.weight
        if edit.weight_changed:
            yield Expected(str(weight.dtype), prod(weight.shape), edit.new_weight)
        if (bias := edit.new_bias()) is not None:
            yield _known(bias)
    elif isinstance(edit, Renorm):
        assert isinstance(edit.node.kind, Norm)
        yield _known(cast(edit.scale, edit.node.kind.dtype))
        yield _known(cast(edit.shift, edit.node.kind.dtype))
    else:
        yield _known(_constant_of(edit).fitted(edit.constant))


def _shaped(array: NDArray[Any]) -> Expected:
    return Expected(str(array.dtype), array.size, lambda: array, shape=array.shape)


def _lowered(edit: Lower, arrays: list[Expected]) -> Lowered:
    role = "sum" if edit.factor is None else "product"
    role = "depthwise" if edit.form == "depthwise" else role
    reads = arrays if edit.form == "depthwise" else arrays[:1]
    assert isinstance(edit.node.kind, Norm)
    return Lowered(role, edit.node.kind.channels, edit.rank, tuple(reads))


def _stored(edit: Requantise) -> Iterator[Expected]:
    """The parts of a quantised constant that an edit computes."""
    yield _known(edit.scale)
    if edit.zero is not None:
        yield _known(edit.zero)
    for load, like in ((edit.integers, edit.stored.integers), (edit.floats, edit.stored.latent)):
        if load is not None and like is not None:
            yield Expected(str(like.dtype), prod(like.shape), load)


def _known(array: NDArray[Any]) -> Expected:
    return Expected(str(array.dtype), array.size, lambda: array)


def _constant_of(edit: Reconstant | Revalue) -> Constant:
    kind = edit.node.kind
    found = edit.value.constant if isinstance(edit, Revalue) else None
    if found is None and isinstance(kind, Affine):
        found = kind.constant
    assert found is not None
    return found
