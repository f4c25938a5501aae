"""FrozenBatchNorm: a BatchNorm written out as ``x * scale + shift``, both computed from its buffers.

``scale = weight * rsqrt(running_var + eps)`` and ``shift = bias - running_mean * scale``, as in
torchvision, in DETR and their kin. The two calls are one `Norm` where the numbers say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.fx import Node as Call

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import unit_roundoff
from bnfold.constants import Constant
from bnfold.formats.patterns import unused
from bnfold.formats.torch.graph.arguments import base_name, nodes_in
from bnfold.formats.torch.graph.constants import Constants
from bnfold.formats.torch.graph.names import module_path
from bnfold.graph import Node
from bnfold.kinds import Affine, Norm

_LEAVES = ("weight", "bias", "running_mean", "running_var")
_ROUNDINGS = 16


@dataclass(eq=False)
class Frozen:
    """What a frozen norm is made of: the call that scales, and the nodes of its buffers.

    ``computing`` are the calls that make scale and shift of the buffers; ``calls``: how often its
    module is called, each time with a scale and a shift of its own.
    """

    scaling: Call
    buffers: dict[str, Call]
    computing: tuple[Call, ...]
    calls: int = 1


def join_frozen_norms(nodes: Sequence[Node], constants: Constants) -> list[Node]:
    """The nodes, each pair of a scale and a shift that is a frozen norm put into one."""
    taken = {node.name for node in nodes}
    gone: set[Node] = set()
    joined: list[Node] = []
    for node in nodes:
        shift = _shift_behind(node)
        kind = None if shift is None else _norm(node, shift, constants)
        if shift is None or kind is None:
            continue
        computing = (*_ancestors(node, constants), *_ancestors(shift, constants))
        own = tuple(dict.fromkeys(call for call in computing if call.op == "call_function"))
        frozen = Frozen(node.native.call, _buffers(shift, constants), own)
        node.kind, node.op = kind, "batch_norm"
        node.name = unused(module_path(node.native.call) or node.name, taken)
        node.native.frozen, node.native.call = frozen, shift.native.call
        node.outputs = shift.outputs
        for value in node.outputs:
            value.producer = node
        gone.add(shift)
        joined.append(node)
    _count_calls(joined)
    return [node for node in nodes if node not in gone]


def _shift_behind(node: Node) -> Node | None:
    """The addition of a constant that alone reads the product with one."""
    if not _is_affine(node, "x*c"):
        return None
    value = node.outputs[0]
    if value.is_output or value.shape_readers or len(value.readers) != 1:
        return None
    reader = value.readers[0]
    return reader if reader.scope == node.scope and _is_affine(reader, "x+c") else None


def _is_affine(node: Node, form: str) -> bool:
    kind = node.kind
    return isinstance(kind, Affine) and kind.form == form and kind.constant is not None


def _norm(node: Node, shift: Node, constants: Constants) -> Norm | None:
    """The norm that both are, None where the numbers say something else."""
    buffers = _buffers(shift, constants)
    if set(buffers) != set(_LEAVES) or set(_buffers(node, constants)) - {"weight", "running_var"}:
        return None
    found = {leaf: constants.find(call) for leaf, call in buffers.items()}
    epsilon = _epsilon(node, constants)
    mean = found["running_mean"]
    arrays = {leaf: c.float64() for leaf, c in found.items() if c is not None}
    if epsilon is None or mean is None or any(a.shape != mean.shape for a in arrays.values()):
        return None
    kind = Norm(
        channels=mean.shape[0],
        epsilon=epsilon,
        momentum=None,
        mean=arrays["running_mean"],
        variance=arrays["running_var"],
        scale=arrays["weight"],
        shift=arrays["bias"],
        dtype=mean.dtype,
        lowers=lambda: False,  # it is a product and a sum already
    )
    return kind if _computes(kind, node, shift) else None


def _computes(kind: Norm, node: Node, shift: Node) -> bool:
    """Whether scale and shift are those of ``kind``, to within rounding."""
    assert isinstance(node.kind, Affine) and isinstance(shift.kind, Affine)
    found = [_per_channel(c, kind.channels) for c in (node.kind.constant, shift.kind.constant)]
    if found[0] is None or found[1] is None:
        return False
    scale, offset = kind.vectors()
    bound = _ROUNDINGS * unit_roundoff(kind.dtype)
    size = np.abs(kind.shift) + np.abs(kind.mean * scale)
    return bool(
        (np.abs(found[0] - scale) <= bound * np.abs(scale)).all()
        and (np.abs(found[1] - offset) <= bound * size).all()
    )


def _per_channel(constant: Constant | None, channels: int) -> Array | None:
    """A constant over the channels of a value of rank 4: (C, 1, 1) or (1, C, 1, 1)."""
    if constant is None or constant.shape not in ((channels, 1, 1), (1, channels, 1, 1)):
        return None
    return constant.float64().reshape(-1)


def _buffers(node: Node, constants: Constants) -> dict[str, Call]:
    """The buffers of one module that the constant of an affine follows from, by their last name."""
    found: dict[str, Call] = {}
    owners = set()
    for call in _ancestors(node, constants):
        target = constants.parameter(call)
        if target is not None:
            owner, _, leaf = target.rpartition(".")
            found[leaf] = constants.bodies.origin(call)
            owners.add(owner)
    return found if len(owners) == 1 else {}


def _epsilon(node: Node, constants: Constants) -> float | None:
    """The number that is added on the way from the variance to the scale."""
    added = [
        float(number)
        for call in _ancestors(node, constants)
        if call.op == "call_function" and base_name(call) == "add"
        for number in call.args
        if isinstance(number, int | float)
    ]
    return added[0] if len(added) == 1 else (None if added else 0.0)


def _ancestors(node: Node, constants: Constants) -> Iterator[Call]:
    """All nodes that the constant operand of an affine is computed from."""
    call: Any = node.native.call
    waiting = [read for read in nodes_in((call.args, call.kwargs)) if constants.is_known(read)]
    seen: set[Call] = set()
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            yield current
            waiting += nodes_in((current.args, current.kwargs))


def _count_calls(nodes: Sequence[Node]) -> None:
    by_mean: dict[Call, list[Node]] = {}
    for node in nodes:
        by_mean.setdefault(node.native.frozen.buffers["running_mean"], []).append(node)
    for calls in by_mean.values():
        for node in calls:
            node.native.frozen.calls = len(calls)
