"""How a file stores the constants that DequantizeLinear makes of integers, where a factor could reach it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from bnfold.constants import Constant, Quantised
from bnfold.formats.onnx.graph.evaluation import CONTRIBUTED
from bnfold.formats.onnx.graph.scopes import Scope

Find = Callable[[Scope, str], Constant | None]
_FIRST_OPSET_WITH_AXIS = 13
_INTEGERS = frozenset("int4 uint4 int8 uint8 int16 uint16 int32".split())
_ONE_NUMBER = ((), (1,))


@dataclass(frozen=True, eq=False)
class StoredAt:
    """The nodes that make a constant: of integers, and, where it is there, the one that rounds to them."""

    scope: Scope
    dequantise: onnx.NodeProto
    quantise: onnx.NodeProto | None = None


def stored_form(find: Find, scope: Scope, name: str, opset: int) -> Quantised | None:
    """How a constant is stored; None where it is no dequantised integer, or where a change of it would
    reach others as well.

    Args:
        find: the constant that a name means in a body.
        scope: the body that computes it.
        name: its name there.
        opset: version of the standard operator set.
    """
    order: list[int] | None = None
    node = scope.producers.get(name)
    while node is not None and node.op_type in ("Identity", "Transpose"):
        source = find(scope, node.input[0])
        if source is None or scope.reads[name] != 1:
            return None
        if node.op_type == "Transpose":
            axes = _axes(node, len(source.shape))
            order = axes if order is None else [axes[i] for i in order]
        name = node.input[0]
        node = scope.producers.get(name)
    if node is None or node.op_type != "DequantizeLinear" or scope.reads[name] != 1:
        return None
    return _dequantised(find, scope, node, order, opset)


def _dequantised(
    find: Find, scope: Scope, node: onnx.NodeProto, order: list[int] | None, opset: int
) -> Quantised | None:
    integers, scale, zero = _inputs(find, scope, node)
    if integers is None or scale is None or str(integers.dtype) not in _INTEGERS:
        return None
    block = _int(node, "block_size", 0) or None
    if not _fits(node, integers, scale, zero, block):
        return None
    rounding = scope.producers.get(node.input[0])
    latent = None
    if rounding is not None and rounding.op_type == "QuantizeLinear":
        latent = _latent(find, scope, rounding, node)
        if latent is None:
            return None
    return Quantised(
        integers,
        scale,
        zero,
        None if scale.shape in _ONE_NUMBER and block is None else _axis(node, integers),
        tuple(order or range(len(integers.shape))),
        splits=opset >= _FIRST_OPSET_WITH_AXIS or node.domain == CONTRIBUTED,
        latent=latent,
        native=StoredAt(scope, node, rounding if latent is not None else None),
        block=block,
    )


def _fits(
    node: onnx.NodeProto,
    integers: Constant,
    scale: Constant,
    zero: Constant | None,
    block: int | None,
) -> bool:
    """Whether scale and zero point hold one number, or one for each channel, or block, along the axis."""
    shapes = {scale.shape, scale.shape if zero is None else zero.shape}
    if block is not None:
        axis, sizes = _axis(node, integers), list(integers.shape)
        if not 0 <= axis < len(sizes) or block < 0:
            return False
        sizes[axis] = -(-sizes[axis] // block)
        return shapes == {tuple(sizes)}
    if shapes <= set(_ONE_NUMBER):
        return True
    axis = _axis(node, integers)
    return 0 <= axis < len(integers.shape) and shapes == {(integers.shape[axis],)}


def _latent(
    find: Find, scope: Scope, rounding: onnx.NodeProto, node: onnx.NodeProto
) -> Constant | None:
    """The floats that ``rounding`` makes the integers of; None where it has another grid than ``node``."""
    floats, *grid = _inputs(find, scope, rounding)
    _, *others = _inputs(find, scope, node)
    alike = all(_alike(a, b) for a, b in zip(grid, others, strict=True))
    alike = alike and _int(rounding, "axis", 1) == _int(node, "axis", 1)
    alone = scope.reads[node.input[0]] == 1 and not _int(rounding, "block_size", 0)
    return floats if alike and alone else None


def _alike(a: Constant | None, b: Constant | None) -> bool:
    if a is None or b is None or a is b:
        return a is b
    return a.dtype == b.dtype and np.array_equal(a.load(), b.load())


def _inputs(find: Find, scope: Scope, node: onnx.NodeProto) -> list[Constant | None]:
    names = [*node.input, "", ""][:3]
    return [find(scope, name) if name else None for name in names]


def _axis(node: onnx.NodeProto, integers: Constant) -> int:
    axis = _int(node, "axis", 1)
    return axis + len(integers.shape) if axis < 0 else axis


def _axes(transposition: onnx.NodeProto, rank: int) -> list[int]:
    given = [list(a.ints) for a in transposition.attribute if a.name == "perm"]
    return [int(axis) for axis in given[0]] if given else list(reversed(range(rank)))


def _int(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)
