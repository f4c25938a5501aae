"""A folded program as a module that behaves like others: train, eval, pickle, deepcopy, other sizes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import GraphModule, Proxy
from torch.utils import _pytree as pytree

from bnfold.formats.torch.file.quiet import quietly

_CHECKS = "_guards_fn"
_ENDLESS = 1 << 40


class SizeChecks(nn.Module):
    """Refuses inputs of sizes that the network was not traced for.

    torch's own form of it cannot be pickled.
    """

    def __init__(self, conditions: Sequence[tuple[str, str]]) -> None:
        """Takes conditions as Python expressions over ``args``, each with a form for people."""
        super().__init__()
        self._conditions = list(conditions)
        self._is_impure = True  # nobody reads its result, and it has to run
        self._check = _compiled(self._conditions)

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in self.__dict__.items() if name != "_check"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        restore: Any = super().__setstate__
        restore(state)
        self._check = _compiled(self._conditions)

    def forward(self, *args: Any) -> None:
        if not any(isinstance(arg, Proxy) for arg in args):  # symbolic tracing knows no sizes
            self._check(*args)


def _compiled(conditions: Sequence[tuple[str, str]]) -> Callable[..., None]:
    """One function for all, which torch.export and torch.compile can trace through."""
    from torch.fx.experimental.symbolic_shapes import SYMPY_INTERP

    lines = [
        f"    torch._assert({code}, {f'this size was not traced for: {words}'!r})"
        for code, words in conditions
    ]
    space: dict[str, Any] = {**SYMPY_INTERP, "math": math, "inf": math.inf, "torch": torch}
    exec("\n".join(["def check(*args):", *lines, "    return"]), space)
    found: Callable[..., None] = space["check"]
    return found


def as_module(program: ExportedProgram) -> GraphModule:
    """``program`` as a module of its own, parameters under their names."""
    stateful: Any = quietly(lambda: program.module())
    module = GraphModule(stateful, stateful.graph)
    conditions = _conditions(program, stateful)
    if conditions is not None and hasattr(module, _CHECKS):
        setattr(module, _CHECKS, SizeChecks(conditions))
    module.meta = {}
    return module.eval()


def _conditions(program: ExportedProgram, stateful: GraphModule) -> list[tuple[str, str]] | None:
    """What inputs have to fulfil; None where it is said in a way that is not understood here."""
    assert program.example_inputs is not None
    args, kwargs = program.example_inputs
    bound = inspect.signature(stateful.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    paths = [path for path, _ in pytree.tree_leaves_with_path(dict(bound.arguments))]
    found = _sizes(program)
    for guard in program._guards_code:
        code = words = guard
        for index, path in enumerate(paths):
            first: Any = path[0]
            shown = f"{first.key}{pytree.keystr(path[1:])}"
            for source in (f"L['flat_args'][{index}]", f"L{pytree.keystr(path)}"):
                code = code.replace(source, f"args[{index}]")
                words = words.replace(source, shown)
        if "L[" in code:
            return None
        found.append((code, words))
    return found


def _sizes(program: ExportedProgram) -> list[tuple[str, str]]:
    """Conditions on single axes: fixed, equal to another, or within a range."""
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    user = (s for s in program.graph_signature.input_specs if s.kind is InputKind.USER_INPUT)
    first: dict[Any, str] = {}
    found: list[str] = []
    names: dict[str, str] = {}
    for index, spec in enumerate(user):
        value = values.get(spec.arg.name)
        if not isinstance(value, torch.Tensor):
            continue
        names[f"args[{index}]"] = spec.arg.name
        found.append(f"args[{index}].dim() == {value.ndim}")
        for axis, size in enumerate(value.shape):
            found += _axis(f"args[{index}].size()[{axis}]", size, first, program)
    shown = []
    for code in found:
        words = code
        for source, name in names.items():
            words = words.replace(source, name)
        shown.append((code, words))
    return shown


def _axis(source: str, size: Any, first: dict[Any, str], program: ExportedProgram) -> list[str]:
    if isinstance(size, int):
        return [f"{source} == {size}"]
    expression = size.node.expr
    if not expression.is_Symbol:
        return []
    if expression in first:
        return [f"{source} == {first[expression]}"]
    first[expression] = source
    known = program.range_constraints.get(expression)
    if known is None:
        return []
    # Endless bounds are symbols of torch's own; a lower one of 2 only says that a tracer takes a
    # size of one for a constant.
    bounds = [f"{source} >= {int(known.lower)}"] if 2 < known.lower < _ENDLESS else []
    return [*bounds, f"{source} <= {int(known.upper)}"] if known.upper < _ENDLESS else bounds
