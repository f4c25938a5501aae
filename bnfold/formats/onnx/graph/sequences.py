"""Sequences of tensors that serve as a split: one node cuts, others pick entries by their position.

That is how the newer torch exporter writes ``torch.split`` and ``torch.chunk``. Each entry is then
a slice of what was cut, and the sequence itself is nothing that anybody else needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from bnfold.formats.onnx.graph.constants import Constants
from bnfold.formats.onnx.graph.scopes import Scope, bodies_of, captured_names

_STANDARD = ("", "ai.onnx")


def find_cuts(scopes: Sequence[Scope], constants: Constants) -> bool:
    """Notes in every scope the sequences that are made with fixed sizes and read at fixed positions.

    One that is a graph output, or that a body or any other operator reads, is not among them.
    Returns whether there are any.
    """
    for scope in scopes:
        made = {n.output[0]: n for n in scope.graph.node if _cuts_fixed(scope, n, constants)}
        if made:
            for name in _read_whole(scope, constants):
                made.pop(name, None)
        scope.cuts = made
    return any(scope.cuts for scope in scopes)


def _cuts_fixed(scope: Scope, node: onnx.NodeProto, constants: Constants) -> bool:
    if node.op_type != "SplitToSequence" or node.domain not in _STANDARD:
        return False
    return len(node.input) == 1 or _is_fixed(scope, node.input[1], constants)


def _read_whole(scope: Scope, constants: Constants) -> set[str]:
    """Names that something reads in another way than to pick an entry at a fixed position."""
    names = {output.name for output in scope.graph.output}
    for node in scope.graph.node:
        picks = node.op_type == "SequenceAt" and node.domain in _STANDARD
        if not picks or not _is_fixed(scope, node.input[1], constants):
            names.update(node.input)
        for body in bodies_of(node):
            names |= captured_names(body)
    return names


def _is_fixed(scope: Scope, name: str, constants: Constants) -> bool:
    constant = constants.find(scope, name) if name else None
    return constant is not None and constant.obstacle is None
