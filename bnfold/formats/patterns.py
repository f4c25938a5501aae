"""What several nodes mean together, whichever format they come from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from bnfold.constants import Constant
from bnfold.graph import Node, Value
from bnfold.kinds import Affine, Linear, Opaque, Product


def join_biases(
    nodes: list[Node],
    products: Collection[str],
    rank: Callable[[Value], int | None],
    native: Callable[[Node], Any],
) -> list[Node]:
    """A matrix product and the vector added behind it are one linear layer.

    Args:
        nodes: what was read.
        products: names of the operators that have no bias of their own.
        rank: of a value, None where it is not known.
        native: what stands behind an addition, kept as ``bias_add`` of the product's native.

    Returns:
        The nodes that are left.
    """
    gone: set[Node] = set()
    for node in nodes:
        bias = _bias_behind(node, rank) if node.op in products else None
        if bias is None:
            continue
        assert isinstance(node.kind, Linear) and isinstance(bias.kind, Affine)
        node.kind = replace(node.kind, bias=bias.kind.constant)
        node.native.bias_add = native(bias)
        node.outputs = bias.outputs
        for value in node.outputs:
            value.producer = node
        gone.add(bias)
    return [node for node in nodes if node not in gone]


def _bias_behind(node: Node, rank: Callable[[Value], int | None]) -> Node | None:
    """The addition of a constant over output channels that alone reads a product."""
    value = node.outputs[0]
    if not isinstance(node.kind, Linear) or value.is_output or value.shape_readers:
        return None
    reader = value.readers[0] if len(value.readers) == 1 else None
    if reader is None or reader.scope != node.scope or not isinstance(reader.kind, Affine):
        return None
    constant = reader.kind.constant
    if reader.kind.form != "x+c" or constant is None or constant.obstacle:
        return None
    fits = len(constant.shape) <= (rank(value) or 2)
    along = _varies_along(constant, node.kind.bias_axis, node.kind.layout.outputs)
    return reader if fits and along else None


def _varies_along(constant: Constant, axis: int, channels: int) -> bool:
    """Whether a constant varies along ``axis`` (negative) only, as the bias of a product does."""
    if len(constant.shape) < -axis:
        return False
    sizes = list(constant.shape)
    return sizes.pop(axis) in (1, channels) and all(n == 1 for n in sizes)


@dataclass(frozen=True)
class ComputedNorms:
    """How a format calls what normalises with statistics of its own input.

    ``operators`` do it in one node; elsewhere one of ``products`` applies a deviation, to which one
    of ``dividers`` leads.
    """

    operators: frozenset[str]
    products: frozenset[str]
    dividers: frozenset[str]

    def mark(self, nodes: Iterable[Node]) -> None:
        """The affine behind a layer norm is that norm's own, no decomposed BatchNorm."""
        for node in nodes:
            if isinstance(node.kind, Affine) and self._lead_to(node):
                node.kind = replace(node.kind, computed_statistics=True)

    def _lead_to(self, node: Node) -> bool:
        """Whether a division by a computed deviation, or a norm operator, leads to this affine."""
        above: Node | None = node
        while above is not None and isinstance(above.kind, Affine):
            above = above.inputs[0].producer
        if above is None or not isinstance(above.kind, Opaque | Product):
            return False
        if above.op in self.operators:
            return True
        divided = above.op in self.products
        return divided and any(self._is_deviation(v.producer) for v in above.inputs)

    def _is_deviation(self, node: Node | None, depth: int = 3) -> bool:
        if node is None or depth == 0:
            return False
        if node.op in self.dividers:
            return True
        return any(self._is_deviation(value.producer, depth - 1) for value in node.inputs)


def unused(name: str, taken: set[str], mark: str = "#") -> str:
    """``name``, with a number behind it where it is taken; it is taken from now on."""
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}{mark}{count}"
    taken.add(candidate)
    return candidate
