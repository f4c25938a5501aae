"""Plain in-place operators (``relu_``, ``add_``) become those that return something new.

torch can take out every kind of writing (`run_decompositions`), but traces the program a second time
for that. What nearly all networks write is a rectifier over a layer's result, or a sum into a branch:
nobody else holds the memory that is written, so that the operator of the same name without the
underscore gives the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from bnfold.formats.torch.file.quiet import quietly
from bnfold.formats.torch.graph.arguments import (
    arguments_of,
    base_name,
    is_aten,
    mutates,
    nodes_in,
    operator_of,
)

# Operators whose result is memory of its own, never that of an operand, whatever their arguments.
_FRESH = frozenset(
    "conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d linear addmm "
    "batch_norm group_norm layer_norm instance_norm cat add sub mul div relu relu6 silu gelu elu celu "
    "selu leaky_relu hardtanh hardswish hardsigmoid sigmoid tanh mish softplus mean amax max_pool1d "
    "max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d".split()
)

_DROPOUTS = frozenset(("dropout_", "feature_dropout_", "alpha_dropout_", "feature_alpha_dropout_"))


def without_plain_writes(program: ExportedProgram) -> None:
    """Replaces in-place operators of the main graph where that is certain to change nothing else.

    The others are left for `run_decompositions`.
    """
    graph = program.graph
    order = {node: place for place, node in enumerate(graph.nodes)}
    changed = False
    for node in graph.nodes:
        plain = _plain_form(node)
        if plain is None or not (_writes_nothing(node) or _is_alone(node, order)):
            continue
        old: Any = node.args[0]
        later = [user for user in old.users if order[user] > order[node]]
        for user in [] if _writes_nothing(node) else later:
            user.replace_input_with(old, node)
        node.target = plain
        changed = True
    if changed:
        program.graph_module.recompile()


def _plain_form(node: Node) -> Any:
    """The operator of the same name and overload that writes nothing; None where there is none."""
    if not is_aten(node) or not node.args or not isinstance(node.args[0], Node):
        return None
    operator, name = operator_of(node), base_name(node)
    if not name.endswith("_") or name.endswith("__"):
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    plain = getattr(packet, operator._overloadname, None)
    if plain is None or plain._schema.is_mutable:
        return None
    # The first stands by position; some call it `self` and `input`.
    written, own = operator._schema.arguments[1:], plain._schema.arguments[1:]
    same = [a.name for a in written] == [a.name for a in own]
    return plain if same and _writes_first_alone(operator) else None


def _writes_nothing(node: Node) -> bool:
    """Whether it is dropout that is off."""
    return base_name(node) in _DROPOUTS and arguments_of(node).get("train") is False


def _writes_first_alone(operator: Any) -> bool:
    first, *others = operator._schema.arguments
    writes = first.alias_info is not None and first.alias_info.is_write
    return writes and not any(a.alias_info is not None for a in others)


def _is_alone(node: Node, order: dict[Node, int]) -> bool:
    """Whether no other value lies in the memory that ``node`` writes, and its type and layout stay."""
    target: Any = node.args[0]
    if base_name(target) not in _FRESH or not is_aten(target):
        return False
    before = [user for user in target.users if order[user] < order[node]]
    returned = any(user.op == "output" for user in target.users)
    if returned or any(base_name(user) not in _FRESH or not is_aten(user) for user in before):
        return False
    others = list(nodes_in((node.args[1:], node.kwargs)))
    return target not in others and all(_is_like(target, other) for other in others)


def _is_like(target: Node, other: Node) -> bool:
    """Whether an operand leaves the type and the layout of the result to the first one."""
    own, value = target.meta.get("val"), other.meta.get("val")
    if not isinstance(own, torch.Tensor) or not own.is_floating_point():
        return False
    if not isinstance(value, torch.Tensor):
        return True
    # Written out, as comparing symbols would add a guard.
    laid_out = value.ndim == 0 or str(value.stride()) == str(own.stride())
    return value.dtype == own.dtype and laid_out


def functional(program: ExportedProgram) -> ExportedProgram:
    """The same program without operators that write into their inputs, and without autocast regions.

    What autocast converts on the way stands as a conversion then.
    """
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, GraphModule)]
    if any(mutates(node) or _casts(node) for graph in graphs for node in graph.nodes):
        pure: ExportedProgram = quietly(lambda: program.run_decompositions({}))
        return pure
    return program


def _casts(node: Node) -> bool:
    return node.op == "call_function" and base_name(node) == "wrap_with_autocast"
