"""What a fold plan is made of: a decision for each BatchNorm, and the edits to make. All frozen data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import cast
from bnfold.constants import Constant, Quantised
from bnfold.graph import Node, Value
from bnfold.kinds import Geometry, Linear
from bnfold.planning.forms import Form, Lower
from bnfold.planning.reasons import Reason

_PARTS = 2  # a product and a sum


class Action(str, Enum):
    FOLD = "fold"
    MERGE = "merge"
    KEEP = "keep"
    LOWER = "lower"  # it has to stay, and is written with other operators (`--rest`)


class Direction(str, Enum):
    """Where a map went: into what is before it, into what is behind it, or (a choice of gauges) both."""

    BACKWARD = "backward"
    FORWARD = "forward"
    BOTH = "both"


@dataclass(frozen=True)
class Refusal:
    """Why something stays: a reason, the node to look at, and the sentence shown."""

    reason: Reason
    culprit: str | None
    message: str

    def to_json(self) -> dict[str, Any]:
        return {"code": self.reason.code, "message": self.message, "culprit": self.culprit}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Refusal:
        return cls(Reason[data["code"].upper()], data["culprit"], data["message"])


@dataclass(frozen=True)
class Decision:
    """What becomes of one normalisation: folded into or merged with the nodes ``into``, or kept.

    ``form`` is what one that stays is written as, where that is no BatchNorm; ``reason`` says why it
    has to stay. ``part_of`` names the frozen BatchNorm that an affine operation is a part of.
    """

    name: str
    source: Literal["batch_norm", "affine"]
    action: Action
    direction: Direction | None = None
    into: tuple[str, ...] = ()
    reason: Refusal | None = None
    form: Form | None = None
    part_of: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The decision as inspect and fold print it (the name stands beside it there)."""
        found: dict[str, Any] = {
            "action": self.action.value,
            "direction": self.direction.value if self.direction else None,
            "into": list(self.into),
            "reason": self.reason.to_json() if self.reason else None,
        }
        more = {"form": self.form, "part_of": self.part_of}
        return found | {key: value for key, value in more.items() if value is not None}

    @classmethod
    def from_json(
        cls, name: str, data: dict[str, Any], source: Literal["batch_norm", "affine"] = "batch_norm"
    ) -> Decision:
        return cls(
            name,
            source,
            Action(data["action"]),
            Direction(data["direction"]) if data["direction"] else None,
            tuple(data["into"]),
            Refusal.from_json(data["reason"]) if data["reason"] else None,
            data.get("form"),
            data.get("part_of"),
        )


@dataclass(frozen=True, eq=False)
class Reweight:
    """New parameters of a `Linear` node.

    The weight becomes ``kind.weight * out_scale * in_scale`` along its channels (None: unchanged)
    and the effective bias becomes ``bias`` (float64, broadcasting as `Linear.bias`; None: no bias),
    the operator's own bias factor already in it. ``kind`` is the node's own, or what a merge of
    branches has made of it: then `MergeBranches` has changed the operator's settings before.
    """

    node: Node
    kind: Linear
    out_scale: Array | None
    in_scale: Array | None
    bias: Array | None
    bias_changed: bool

    @property
    def weight_changed(self) -> bool:
        scaled = self.out_scale is not None or self.in_scale is not None
        return scaled or self.kind is not self.node.kind

    def new_weight(self) -> NDArray[Any]:
        """The weight in its own type."""
        result = np.empty(self.kind.weight.shape, self.kind.weight.dtype)
        flat, start = result.reshape(-1), 0
        for block in self.weight_blocks():
            flat[start : start + block.size] = block.reshape(-1)
            start += block.size
        return result

    def weight_blocks(self) -> Iterator[NDArray[Any]]:
        """The same in blocks, in row-major order, of which one is in memory at a time.

        What fits into one block has the weight's shape.
        """
        shape, dtype = self.kind.weight.shape, self.kind.weight.dtype
        factors = self.out_scale, self.in_scale
        for block in self.kind.layout.scaled_blocks(self.kind.weight.parts, *factors):
            yield cast(block.reshape(shape) if block.size == prod(shape) else block, dtype)

    def new_bias(self) -> NDArray[Any] | None:
        """The bias in the weight's type; None where it stays, or where there is none."""
        if not self.bias_changed or self.bias is None:
            return None
        return cast(self.bias, self.kind.weight.dtype)


@dataclass(frozen=True, eq=False)
class Requantise:
    """A quantised parameter of a `Linear` node, ``constant``, is stored anew.

    ``scale`` and ``zero`` (None: as it is) hold one number, or vary along ``axis`` of the integers.
    ``integers`` and ``floats``, which the file rounds to them, are computed when asked for (None: as
    they are).
    """

    node: Node
    constant: Constant
    scale: NDArray[Any]
    zero: NDArray[Any] | None
    axis: int | None
    integers: Callable[[], NDArray[Any]] | None = None
    floats: Callable[[], NDArray[Any]] | None = None

    @property
    def stored(self) -> Quantised:
        """How the file stores it now."""
        assert self.constant.quantised is not None
        return self.constant.quantised


@dataclass(frozen=True, eq=False)
class Reconstant:
    """The constant operand of an `Affine` node becomes ``constant``."""

    node: Node
    constant: Array


@dataclass(frozen=True, eq=False)
class Renorm:
    """A `Norm` node that stays gets this ``scale`` and ``shift`` (gamma and beta)."""

    node: Node
    scale: Array
    shift: Array


@dataclass(frozen=True, eq=False)
class Revalue:
    """A constant that ``node`` reads as one of its inputs gets new elements."""

    node: Node
    value: Value
    constant: Array


@dataclass(frozen=True, eq=False)
class Bypass:
    """The node disappears; whoever read its output reads ``source``, one of its inputs."""

    node: Node
    source: Value


@dataclass(frozen=True, eq=False)
class MergeBranches:
    """The layers and norms ``gone`` disappear; ``node`` computes for them as well.

    There is one such edit for a node, whatever number of branches came to it one by one.
    A convolution gets a kernel of shape ``kernel`` and slides as ``geometry`` says, which is None
    for a matrix; a `Reweight` brings weight and bias, `Bypass` edits remove the sums.
    """

    node: Node
    gone: tuple[Node, ...]
    kernel: tuple[int, ...]
    geometry: Geometry | None


@dataclass(frozen=True, eq=False)
class DropAddends:
    """The sum ``node`` no longer adds ``values``, which a merge of branches has taken over."""

    node: Node
    values: tuple[Value, ...]


Edit = (
    Reweight
    | Requantise
    | Reconstant
    | Renorm
    | Lower
    | Revalue
    | Bypass
    | MergeBranches
    | DropAddends
)


@dataclass(frozen=True, eq=False)
class Plan:
    """One decision per normalisation, and what carries them out.

    ``regions`` are the sets of values whose meaning changes, one per decision: outside of them
    nothing may differ, which is what a local proof compares.
    """

    decisions: tuple[Decision, ...]
    edits: tuple[Edit, ...] = field(default=(), repr=False)
    regions: tuple[frozenset[Value], ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=())

    @property
    def batch_norms(self) -> tuple[Decision, ...]:
        return tuple(d for d in self.decisions if d.source == "batch_norm")

    @property
    def affines(self) -> tuple[Decision, ...]:
        return tuple(d for d in self.decisions if d.source == "affine")

    @property
    def frozen(self) -> int:
        """How many frozen BatchNorm, written out as a product and a sum, leave the graph whole."""
        parts = Counter(d.part_of for d in self.affines if d.part_of is not None)
        return sum(count == _PARTS for count in parts.values())

    @property
    def foldable(self) -> int:
        """How many BatchNorm leave the graph."""
        return sum(d.action in (Action.FOLD, Action.MERGE) for d in self.batch_norms)

    @property
    def kept(self) -> int:
        """How many are BatchNorm after the fold as well."""
        return sum(d.action is Action.KEEP for d in self.batch_norms)

    @property
    def lowered(self) -> int:
        """How many stay, and are written with other operators."""
        return sum(d.action is Action.LOWER for d in self.batch_norms)
