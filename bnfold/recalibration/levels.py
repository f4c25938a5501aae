"""Levels: sets of BatchNorm that one partial forward pass measures together, in topological order.

A level is the set of layers whose inputs depend on no other unmeasured layer. Every node is run at
the first level at which its inputs are known; a value that a later level reads crosses the
*frontier*, the border between two levels, and is kept. So each node runs once, and the sum over all
levels is one forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bnfold.graph import Graph, Node, Value
from bnfold.recalibration.observer import Population


@dataclass(frozen=True, eq=False)
class Level:
    """One step. Values go by name.

    ``inputs`` are fed to the piece: values kept by the level before, or the model's own inputs.
    ``targets`` are what the level's layers normalise, or the model's outputs in a last level that
    has no layers; ``kept`` is what crosses to the next level.
    ``nodes`` are the BatchNorm inside the piece, measured before; ``before`` all of lower levels.
    """

    populations: tuple[Population, ...]
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    kept: tuple[str, ...]
    nodes: tuple[Node, ...]
    before: tuple[Node, ...]

    @property
    def computed(self) -> tuple[str, ...]:
        """What the piece has to return: targets and kept values that are not fed already."""
        wanted = dict.fromkeys((*self.targets, *self.kept))
        return tuple(name for name in wanted if name not in self.inputs)


@dataclass(frozen=True, eq=False)
class LevelPlan:
    """All levels. ``split`` names layers that are called on their own output.

    Such a layer has no single population: each of its calls is measured by itself.
    """

    levels: tuple[Level, ...]
    split: tuple[str, ...] = ()

    @property
    def populations(self) -> tuple[Population, ...]:
        return tuple(p for level in self.levels for p in level.populations)

    @property
    def measured_levels(self) -> int:
        """How many levels measure something."""
        return sum(bool(level.populations) for level in self.levels)


def plan_levels(
    graph: Graph,
    populations: Sequence[Population],
    always: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> LevelPlan:
    """Puts the layers into levels. Linear in nodes for each layer that is called several times.

    Args:
        graph: the network.
        populations: the layers to measure.
        always: inputs of the model that every piece is fed, see `Observer.always`.
        outputs: values that nodes compute, for a last level that measures nothing.
    """
    numbering = _Numbering(graph, populations)
    ends = [v for node in numbering.nodes for v in node.outputs if v.name in outputs]
    needed = _needed(numbering, [*numbering.targets, *ends])
    last_use = _last_uses(numbering, needed)
    count = 1 + max(numbering.level_of.values()) + bool(ends)
    last_use |= dict.fromkeys(ends, count - 1)
    levels: list[Level] = []
    kept: tuple[Value, ...] = ()
    last_use |= {v: count - 1 for v in numbering.inputs if v.name in always}
    for number in range(count):
        before, kept = kept, _crossing(numbering, last_use, number)
        level = _level(numbering, needed, number, before, kept)
        if not level.populations:
            level = _with_targets(level, ends, before)
        fed = dict.fromkeys((*level.inputs, *(v.name for v in before if v.name in always)))
        levels.append(replace(level, inputs=tuple(fed)))
    return LevelPlan(tuple(levels), tuple(numbering.split))


class _Numbering:
    """The level of every value and of every layer."""

    def __init__(self, graph: Graph, populations: Sequence[Population]) -> None:
        # Nodes in bodies run as part of the node that holds the body.
        self.nodes = [node for node in graph.nodes if not node.scope]
        self.reads = _reads(self.nodes)
        self.populations = list(populations)
        self.split: list[str] = []
        self._number()

    def _number(self) -> None:
        """Raises the level of shared layers until nothing changes."""
        floor = dict.fromkeys(self.populations, 0)
        while True:
            self.level_of = self._pass(floor)
            raised = {p: level for p, level in self.level_of.items() if level > floor[p]}
            shared = [p for p in raised if len(p.nodes) > 1]
            endless = [p for p in shared if raised[p] >= len(self.populations)]
            if endless:
                self._split_up(endless[0])
                floor = dict.fromkeys(self.populations, 0)
            elif not shared:
                return
            else:
                floor |= {p: raised[p] for p in shared}

    def _pass(self, floor: dict[Population, int]) -> dict[Population, int]:
        owner = {node: p for p in self.populations for node in p.nodes}
        found = dict(floor)
        self.node_level: dict[Node, int] = {}
        self.value_level: dict[Value, int] = {}
        for node in self.nodes:
            level = max((self.value_level.get(v, 0) for v in self.reads[node]), default=0)
            population = owner.get(node)
            if population is not None:
                found[population] = max(found[population], level)
                level = found[population] + 1
            self.node_level[node] = level
            self.value_level.update(dict.fromkeys(node.outputs, level))
        return found

    def _split_up(self, population: Population) -> None:
        self.split.append(population.name)
        at = self.populations.index(population)
        self.populations[at : at + 1] = [Population((node,)) for node in population.nodes]

    @property
    def inputs(self) -> set[Value]:
        """The model's own: what no node makes."""
        read = (v for node in self.nodes for v in node.inputs)
        return {v for v in read if v.producer is None and v.constant is None}

    @property
    def targets(self) -> list[Value]:
        return [node.inputs[0] for p in self.populations for node in p.nodes]


def _with_targets(level: Level, ends: Sequence[Value], before: Sequence[Value]) -> Level:
    fed = (v.name for v in before if v in ends)
    inputs = tuple(dict.fromkeys((*level.inputs, *fed)))
    return replace(level, targets=tuple(v.name for v in ends), inputs=inputs)


def _reads(nodes: Sequence[Node]) -> dict[Node, list[Value]]:
    """What must exist before each node runs; constants always do.

    A value that steers a node (a computed size) is none of its inputs: it has a reader of that name.
    """
    found = {node: [v for v in node.inputs if v.constant is None] for node in nodes}
    by_name = {node.name: node for node in nodes}
    for value in dict.fromkeys(v for node in nodes for v in (*node.inputs, *node.outputs)):
        for reader in value.readers:
            steered = by_name.get(reader.name)
            if reader not in found and steered is not None and value.constant is None:
                found[steered].append(value)
    return found


def _needed(numbering: _Numbering, targets: Sequence[Value]) -> set[Node]:
    """The nodes that some target depends on."""
    wanted = set(targets)
    needed = set()
    for node in reversed(numbering.nodes):
        if any(value in wanted for value in node.outputs):
            needed.add(node)
            wanted.update(numbering.reads[node])
    return needed


def _last_uses(numbering: _Numbering, needed: set[Node]) -> dict[Value, int]:
    """The last level at which a value is read, by a node or as a target."""
    last: dict[Value, int] = {}
    for node in numbering.nodes:
        if node in needed:
            for value in numbering.reads[node]:
                last[value] = max(last.get(value, 0), numbering.node_level[node])
    for population, level in numbering.level_of.items():
        for node in population.nodes:
            value = node.inputs[0]
            last[value] = max(last.get(value, 0), level)
    return last


def _crossing(numbering: _Numbering, last_use: dict[Value, int], number: int) -> tuple[Value, ...]:
    """The values that exist at level ``number`` and are read later."""
    levels = numbering.value_level
    return tuple(v for v, last in last_use.items() if levels.get(v, 0) <= number < last)


def _level(
    numbering: _Numbering,
    needed: set[Node],
    number: int,
    before: tuple[Value, ...],
    kept: tuple[Value, ...],
) -> Level:
    populations = tuple(p for p, level in numbering.level_of.items() if level == number)
    own = {node for p in numbering.populations for node in p.nodes}
    targets = dict.fromkeys(name for p in populations for name in p.values)
    fed = {v.name for v in before}
    run = [n for n in numbering.nodes if n in needed and numbering.node_level[n] == number]
    reads = [v for node in run for v in numbering.reads[node]]
    if not number:  # the model's inputs: what no node makes
        fed |= {v.name for v in (*reads, *numbering.targets, *kept) if v.producer is None}
    wanted = dict.fromkeys([*(v.name for v in reads), *targets, *(v.name for v in kept)])
    earlier = [n for n in numbering.nodes if n in needed & own]
    return Level(
        populations,
        inputs=tuple(name for name in wanted if name in fed),
        targets=tuple(targets),
        kept=tuple(v.name for v in kept),
        nodes=tuple(n for n in run if n in own),
        before=tuple(n for n in earlier if numbering.node_level[n] <= number),
    )
