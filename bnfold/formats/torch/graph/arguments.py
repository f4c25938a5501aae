"""The arguments of one call in an exported graph, by the names that the operator's schema gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.fx import Node


def is_aten_call(node: Node) -> bool:
    """Whether ``node`` calls an operator that has a schema."""
    return node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)


def operator_of(node: Node) -> Any:
    """The operator that a call names; its schema stands in ``_schema``."""
    return node.target


def base_name(node: Node) -> str:
    """The operator's name without namespace and overload."""
    if not is_aten_call(node):
        return getattr(node.target, "__name__", str(node.target))
    name: str = operator_of(node)._schema.name
    return name.rsplit("::", 1)[-1]


def is_aten(node: Node) -> bool:
    return is_aten_call(node) and bool(operator_of(node).namespace == "aten")


def arguments_of(node: Node) -> dict[str, Any]:
    """Every argument of an operator call by name, defaults filled in."""
    schema = operator_of(node)._schema
    bound: dict[str, Any] = {}
    positional = iter(node.args)
    for argument in schema.arguments:
        if argument.name in node.kwargs:
            bound[argument.name] = node.kwargs[argument.name]
        elif argument.kwarg_only:
            bound[argument.name] = argument.default_value
        else:
            bound[argument.name] = next(positional, argument.default_value)
    return bound


def mutates(node: Node) -> bool:
    """Whether a call writes into what it reads."""
    if not is_aten_call(node):
        return False
    if operator_of(node)._schema.is_mutable:
        return True
    bound = arguments_of(node)  # a norm in training mode writes its running statistics
    return bound.get("training") is True and bound.get("running_mean") is not None


def set_argument(node: Node, name: str, value: Any) -> None:
    """Gives ``node`` another argument, at the place where its schema has it."""
    schema = operator_of(node)._schema
    for position, argument in enumerate(schema.arguments):
        if argument.name != name:
            continue
        if argument.kwarg_only or name in node.kwargs:
            node.kwargs = {**node.kwargs, name: value}
            return
        args = list(node.args)
        while len(args) <= position:
            args.append(schema.arguments[len(args)].default_value)
        args[position] = value
        node.args = tuple(args)
        return
    raise KeyError(name)


def nodes_in(tree: Any) -> Iterator[Node]:
    """All graph nodes in an argument, in reading order."""
    if isinstance(tree, Node):
        yield tree
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from nodes_in(item)
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from nodes_in(item)
    elif isinstance(tree, slice):
        yield from nodes_in((tree.start, tree.stop, tree.step))


def mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """``tree`` with every leaf replaced by ``change(leaf)``."""
    if isinstance(tree, list | tuple):
        return [mapped(item, change) for item in tree]
    if isinstance(tree, dict):
        return {key: mapped(item, change) for key, item in tree.items()}
    return change(tree)


def fixed_size(size: int | torch.SymInt) -> int | None:
    """A size as a number, None where it is free. The tracer starts with a symbol for every free axis,
    and shapes keep it where it turned out to stand for one number."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression) if expression.is_number else None


def value_of(node: Node) -> Any:
    """What the tracer knows of the result: a fake tensor, a symbolic number, or a tuple of them."""
    return node.meta.get("val")


def is_tensor(node: Node) -> bool:
    return isinstance(value_of(node), torch.Tensor)
