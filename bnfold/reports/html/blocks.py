"""The operators of a network in blocks, as their names group them: the picture of a fold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from bnfold.jobs.network_change import NetworkChange, Operator
from bnfold.planning import Action, Decision, Direction

_MOST_BLOCKS, _CHUNK, _FEW = 36, 24, 2.5
_GLYPHS: Mapping[Direction | None, str] = {
    Direction.BACKWARD: "←",
    Direction.FORWARD: "→",
    Direction.BOTH: "↔",
    None: "=",
}
_INITIALS = {"linear": "l", "norm": "b", "affine": "a", "other": "o"}


@dataclass(frozen=True)
class Cell:
    """One operator: its classes of the style sheet, what it says, and where it went (indices of cells)."""

    style: str
    words: str
    glyph: str
    into: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """Operators that stand together."""

    name: str
    cells: Sequence[Cell]
    before: int
    after: int


def blocks_of(change: NetworkChange) -> list[Block]:
    """The whole network, in order."""
    operators = change.operators
    decisions = {d.name: d for d in change.plan.decisions}
    places = {o.name: i for i, o in enumerate(operators)}
    taking = {name for d in decisions.values() for name in d.into}
    found = []
    for name, members in _grouped(operators):
        cells = [_cell(o, decisions.get(o.name), places, o.name in taking) for o in members]
        left = sum(not o.gone for o in members)
        found.append(Block(name, cells, len(members), left))
    return found


def _cell(
    operator: Operator, decision: Decision | None, places: Mapping[str, int], takes: bool
) -> Cell:
    initial = _INITIALS[operator.role]
    style = f"{initial}{' gone' if operator.gone else ' took' if operator.changed or takes else ''}"
    words = f"{operator.op} {operator.name}"
    if decision is None or not (operator.gone or decision.action is Action.KEEP):
        return Cell(style, words + (": takes over" if "took" in style else ""), "", ())
    if decision.action is Action.KEEP:
        return Cell(f"{style} stays", f"{words}: stays", "", ())
    into = ", ".join(decision.into) or "nothing: it is the identity"
    targets = tuple(places[name] for name in decision.into if name in places)
    return Cell(style, f"{words} → {into}", _GLYPHS[decision.direction], targets)


def _grouped(operators: Sequence[Operator]) -> list[tuple[str, list[Operator]]]:
    """As deep into the names as there are still few enough blocks; else in equal parts."""
    paths = [[p for p in re.split(r"[/.]", o.name) if p] for o in operators]
    deepest = max((len(path) for path in paths), default=0)
    best: list[tuple[str, list[Operator]]] = []
    for depth in range(1, deepest):
        keys = ["/".join(path[:-1][:depth]) for path in paths]
        joined = groupby(zip(keys, operators, strict=True), key=lambda pair: pair[0])
        found = [(key, [o for _, o in members]) for key, members in joined]
        if len(found) > _MOST_BLOCKS:
            break
        if best and len(found) * _FEW > len(operators):
            break  # one operator each says nothing
        best = found
    return best if len(best) > 1 else _chunks(operators)


def _chunks(operators: Sequence[Operator]) -> list[tuple[str, list[Operator]]]:
    size = max(_CHUNK, -(-len(operators) // _MOST_BLOCKS))
    starts = range(0, len(operators), size)
    return [
        (f"{at + 1} to {min(at + size, len(operators))}", list(operators[at : at + size]))
        for at in starts
    ]
