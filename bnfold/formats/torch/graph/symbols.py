"""Dynamic axes made concrete: two assignments of sizes to the symbols of an exported program."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram

from bnfold.constants import Shape
from bnfold.formats.torch.graph.arguments import value_of

_BATCHES = (2, 3)


class Symbols:
    """Sizes for every symbol, one assignment a round."""

    def __init__(self, program: ExportedProgram) -> None:
        self.assignments = _assignments(program)
        self._cache: dict[tuple[Any, int], int | None] = {}

    @property
    def rounds(self) -> int:
        return len(self.assignments)

    def number(self, value: Any, round: int) -> Any:
        """A plain number for a plain or a symbolic one; None where it depends on data."""
        if not isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            return value
        expression = value.node.expr
        key = expression, round
        if key not in self._cache:
            known = expression.subs(self.assignments[round])
            self._cache[key] = None if known.free_symbols else _plain(value, known)
        return self._cache[key]

    def shape(self, tensor: torch.Tensor, round: int) -> Shape | None:
        """The shape of a fake tensor in that assignment, None where it depends on data."""
        sizes = [self.number(size, round) for size in tensor.shape]
        if any(size is None or size < 0 for size in sizes):
            return None
        return tuple(int(size) for size in sizes if size is not None)


def _plain(value: Any, known: Any) -> Any:
    if isinstance(value, torch.SymBool):
        return bool(known)
    return int(known) if isinstance(value, torch.SymInt) else float(known)


def _assignments(program: ExportedProgram) -> list[dict[Any, int]]:
    hints, batches = _symbols_of_inputs(program)
    if not hints:
        return [{}]
    rounds: list[dict[Any, int]] = []
    for number, batch in enumerate(_BATCHES):
        sizes = {}
        for position, (symbol, hint) in enumerate(hints.items()):
            low, high = _range(program, symbol)
            # A multiple keeps whatever the size had to be a multiple of; different ones tell axes
            # apart that were equal when traced.
            factor = 1 if number == 0 else 2 + position % 2
            wanted = batch if symbol in batches else hint * factor
            sizes[symbol] = min(max(wanted, low), high)
        rounds.append(sizes)
    return rounds


def _symbols_of_inputs(program: ExportedProgram) -> tuple[dict[Any, int], set[Any]]:
    """Each symbol with the size it had when traced, and those that are the first axis of an input."""
    hints: dict[Any, int] = {}
    batches: set[Any] = set()
    for node in program.graph.nodes:
        value = value_of(node)
        if node.op != "placeholder":
            continue
        sizes = list(value.shape) if isinstance(value, torch.Tensor) else [value]
        for axis, size in enumerate(sizes):
            if not isinstance(size, torch.SymInt):
                continue
            expression = size.node.expr
            for symbol in expression.free_symbols:
                hint = size.node.hint if expression == symbol else None
                hints[symbol] = int(hint or hints.get(symbol, 4))
            if axis == 0 and expression.is_Symbol and isinstance(value, torch.Tensor):
                batches.add(expression)
    return hints, batches


def _range(program: ExportedProgram, symbol: Any) -> tuple[int, int]:
    known = program.range_constraints.get(symbol)
    if known is None:
        return 1, 1 << 30
    return max(int(known.lower), 1), int(min(known.upper, 1 << 30))
