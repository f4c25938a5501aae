"""FrozenBatchNorm in an ONNX file: a product and a sum whose constants the file computes from four tensors.

``x * scale + shift`` with ``scale = weight / sqrt(running_var + eps)`` and ``shift = bias -
running_mean * scale``, as in torchvision, in DETR and their kin. Where an exporter has computed the two
constants itself nothing tells them from other constants any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bnfold.formats.onnx.graph.scopes import Scope
from bnfold.formats.patterns import unused
from bnfold.graph import Node
from bnfold.kinds import Affine

_SCALING = {"weight", "running_var"}
_SHIFTING = {*_SCALING, "bias", "running_mean"}


def mark_frozen_norms(nodes: Iterable[Node]) -> None:
    """Tells each of the two operations which norm it is a part of."""
    taken: set[str] = set()
    for node in nodes:
        shift = _behind(node)
        owner = None if shift is None else _owner(node, _SCALING)
        if shift is None or owner is None or _owner(shift, _SHIFTING) != owner:
            continue
        name = unused(owner, taken)
        for part in (node, shift):
            assert isinstance(part.kind, Affine)
            part.kind = replace(part.kind, part_of=name)


def _behind(node: Node) -> Node | None:
    """The sum with a constant that alone reads a product with one."""
    readers = node.outputs[0].readers if _is(node, "x*c") else []
    return readers[0] if len(readers) == 1 and _is(readers[0], "x+c") else None


def _is(node: Node, form: str) -> bool:
    return isinstance(node.kind, Affine) and node.kind.form == form


def _owner(node: Node, wanted: set[str]) -> str | None:
    """The module whose tensors of these names, and no others, a constant is computed from."""
    native = node.native
    flows = {value.name for value in node.inputs}
    found = [_stored(native.scope, name) for name in native.proto.input if name not in flows]
    named = [name.rpartition(".") for name in found[0]] if len(found) == 1 else []
    owners = {owner for owner, _, _ in named}
    leaves = {leaf for _, _, leaf in named}
    return owners.pop() if len(owners) == 1 and leaves == wanted else None


def _stored(scope: Scope, name: str) -> set[str]:
    """The stored tensors that a constant is computed from; numbers have no names."""
    return {n for owner, n in scope.made_of(name) if n in owner.initializers and "." in n}
