"""Making the plan: fold every BatchNorm into layers before it, then behind it, then merge what still stands.

Each step rewrites the network into an exactly equal one, so the order decides only how far the
plan gets: pulls run with the data, pushes against it (so that a chain leaves from its end), merges
last, and all of them again until nothing moves. `gauges` takes what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Affine, Norm, Sum
from bnfold.planning.decision import (
    Action,
    Decision,
    Direction,
    MergeBranches,
    Plan,
    Refusal,
)
from bnfold.planning.edits import edits_of
from bnfold.planning.explanations import explained
from bnfold.planning.forms import Lower
from bnfold.planning.gauges import GaugeFold, fold_with_gauges
from bnfold.planning.ledger import Ledger
from bnfold.planning.lowering import Rest, lowered
from bnfold.planning.reasons import Reason, Refused
from bnfold.planning.reparameterize import merge_branches
from bnfold.planning.sizes import FirstSizes
from bnfold.planning.sources import is_source, source_map, source_of
from bnfold.planning.walk import Walk


def make_plan(
    graph: Graph, *, reparameterize: bool = False, gauges: bool = True, rest: Rest = Rest.KEEP
) -> Plan:
    """One decision for every BatchNorm of ``graph``, one for every affine that can go, and the edits.

    Args:
        graph: what a format's reader made of a model.
        reparameterize: also merge parallel linear branches into one.
        gauges: also fold by maps on many values at once, which may give biases to layers far off.
        rest: in which form a BatchNorm is written that has to stay.
    """
    planner = _planned(graph, reparameterize, gauges)
    if not reparameterize and planner.kept:
        planner.with_branches = _freed_by_merges(graph, planner.kept, gauges)
    planner.with_sizes = _freed_by_sizes(planner, reparameterize, gauges)
    found = (lowered(node, graph, planner.ledger, rest) for node in planner.kept)
    forms = {lower.node: lower for lower in found if lower is not None}
    own = (edit for edit in edits_of(planner.ledger, graph) if edit.node not in forms)
    edits = (*planner.merges.values(), *own, *forms.values())
    decisions = planner.decisions(forms)
    return Plan(decisions, edits, tuple(planner.regions), tuple(graph.notes))


def _planned(graph: Graph, reparameterize: bool, gauges: bool) -> _Planner:
    """The planner that leaves fewest.

    A sum with a constant that a norm has taken over is a bias that gauges cannot use: so they come
    first where that happened and norms are left.
    """
    planner = _Planner(graph)
    planner.run(reparameterize, gauges)
    if gauges and planner.kept and planner.has_merged_affines:
        other = _Planner(graph)
        other.run(reparameterize, gauges, gauges_first=True)
        if other.left < planner.left:
            return other
        planner.gauges.heed(other.gauges)
    return planner


class _Planner:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ledger = Ledger()
        self.regions: list[frozenset[Value]] = []
        self.made: dict[Node, Decision] = {}
        self.refusals: dict[tuple[Node, Direction], Refused] = {}
        self.sources = [n for n in graph.nodes if is_source(n)]
        self.merges: dict[Node, MergeBranches] = {}
        self.gauges = GaugeFold()
        self.with_branches: frozenset[Node] = frozenset()
        self.with_sizes: frozenset[Node] = frozenset()

    @property
    def kept(self) -> list[Node]:
        return [n for n in self.sources if isinstance(n.kind, Norm) and n not in self.made]

    @property
    def left(self) -> tuple[int, int]:
        """How many operations are left, and how many of them are norms."""
        return len(self.sources) - len(self.made), len(self.kept)

    @property
    def has_merged_affines(self) -> bool:
        return any(
            d.action is Action.MERGE and isinstance(n.kind, Affine) for n, d in self.made.items()
        )

    def run(self, reparameterize: bool, gauges: bool, *, gauges_first: bool = False) -> None:
        if reparameterize:
            self.fold_and_merge()
        else:
            self._fold()
        if gauges_first:
            self._choose_gauges()
        self.take_the_rest(gauges)

    def fold_and_merge(self) -> bool:
        """Folds what goes alone, and merges branches; whether there were any."""
        self._fold()
        while self._merge_branches():
            self._fold()
        return bool(self.merges)

    def take_the_rest(self, gauges: bool) -> None:
        """Merges norms and affine operations with one another; then what only gauges fold."""
        before = self.refusals.copy()
        if self._until_nothing_moves(merging=True):
            self._fold()  # what stands in the way of a fold, now that merges are done, is the reason
        else:
            self.refusals = before
        if gauges:
            self._choose_gauges()

    def _fold(self) -> None:
        self._until_nothing_moves(merging=False)

    def _until_nothing_moves(self, *, merging: bool) -> bool:
        """Pulls and pushes all that is left, again and again; whether anything moved."""
        moved = False
        while self._phase(Direction.BACKWARD, merging) | self._phase(Direction.FORWARD, merging):
            moved = True
        return moved

    def _choose_gauges(self) -> None:
        """Folds what no single map can, by maps on many values at once.

        Of two factors of a product one keeps its gauge: what is left may go with the other one.
        """
        before, found = self.gauges, self._chosen_gauges(turned=False)
        if found.has_choice and self.kept:
            found.refusals |= self._chosen_gauges(turned=True).refusals
        found.heed(before)
        self.gauges = found

    def _chosen_gauges(self, *, turned: bool) -> GaugeFold:
        found = fold_with_gauges(self.graph, self.ledger, self.kept, turned=turned)
        for node, into in found.gone.items():
            names = tuple(n.name for n in into)
            self.made[node] = Decision(node.name, "batch_norm", Action.FOLD, Direction.BOTH, names)
        if found.region:
            self.regions.append(found.region)
        return found

    def _merge_branches(self) -> bool:
        """Merges the branches of every sum that has such; norms among them are folded."""
        merged = False
        for merge in merge_branches(self.graph, self.ledger):
            merged = True
            self._enter(merge.edit)
            self.regions.append(merge.region)
            for node in merge.edit.gone:
                if is_source(node):
                    self.made[node] = Decision(
                        node.name, source_of(node), Action.FOLD, None, (merge.edit.node.name,)
                    )
        return merged

    def _enter(self, edit: MergeBranches) -> None:
        """One edit for each node that is left: with what it, and those it takes over, took before."""
        before = self.merges.pop(edit.node, None)
        gone = list(before.gone) if before else []
        for node in edit.gone:
            taken = self.merges.pop(node, None)
            gone += [*(taken.gone if taken else ()), node]
        self.merges[edit.node] = replace(edit, gone=tuple(gone))

    def _phase(self, direction: Direction, merging: bool) -> bool:
        moved = False
        order: Iterable[Node] = [n for n in self.sources if n not in self.made]
        for node in order if direction is Direction.BACKWARD else reversed(list(order)):
            moved |= self._attempt(node, direction, merging)
        return moved

    def _attempt(self, node: Node, direction: Direction, merging: bool) -> bool:
        walk = Walk(self.graph, self.ledger, merging=merging)
        step: Callable[[Node, Walk], None] = _pull if direction is Direction.BACKWARD else _push
        try:
            step(node, walk)
        except Refused as refusal:
            self.refusals[node, direction] = refusal
            return False
        walk.ledger.bypass(node)
        walk.ledger.commit()
        walk.ledger.change(walk.visited)
        self.regions.append(frozenset(walk.visited))
        merge = bool(walk.into) and all(isinstance(n.kind, Norm | Affine) for n in walk.into)
        self.made[node] = Decision(
            node.name,
            source_of(node),
            Action.MERGE if merge else Action.FOLD,
            direction,
            tuple(n.name for n in walk.into),
            part_of=node.kind.part_of if isinstance(node.kind, Affine) else None,
        )
        return True

    def decisions(self, forms: Mapping[Node, Lower]) -> tuple[Decision, ...]:
        """In the order of the graph; affines that stay are not decisions, they are the network."""
        result = []
        for node in self.sources:
            decision = self.made.get(node)
            if decision is None and isinstance(node.kind, Norm):
                action = Action.LOWER if node in forms else Action.KEEP
                form = forms[node].form if node in forms else None
                reason = self._refusal(node)
                decision = Decision(node.name, "batch_norm", action, reason=reason, form=form)
            if decision is not None:
                result.append(decision)
        return tuple(result)

    def _refusal(self, node: Node) -> Refusal:
        return explained(
            self.refusals[node, Direction.BACKWARD],
            self.refusals[node, Direction.FORWARD],
            self.gauges.refusals.get(node),
            goes_with_branches=node in self.with_branches,
            goes_with_sizes=node in self.with_sizes,
            is_impossible=node in self.gauges.impossible,
        )


def _freed_by_merges(graph: Graph, kept: Sequence[Node], gauges: bool) -> frozenset[Node]:
    """Which norms stay only because parallel branches are not merged: found by merging them."""
    if not any(isinstance(node.kind, Sum) for node in graph.nodes):
        return frozenset()
    other = _Planner(graph)
    if not other.fold_and_merge():
        return frozenset()
    other.take_the_rest(gauges)
    return frozenset(kept) - frozenset(other.kept)


def _freed_by_sizes(planner: _Planner, reparameterize: bool, gauges: bool) -> frozenset[Node]:
    """Which norms stay only because elements share an axis whose size is free, heads and samples say:
    found by a plan for one size."""
    kept, graph = frozenset(planner.kept), planner.graph
    mixed = any(
        r.reason is Reason.MIXED_CHANNELS for (n, _), r in planner.refusals.items() if n in kept
    )
    if graph.oracle.rounds == 1 or not mixed:
        return frozenset()
    fixed = replace(graph, oracle=FirstSizes(graph.oracle))
    return kept - frozenset(_planned(fixed, reparameterize, gauges).kept)


def _pull(node: Node, walk: Walk) -> None:
    walk.pull(node.inputs[0], source_map(node, walk), node)


def _push(node: Node, walk: Walk) -> None:
    amap = source_map(node, walk)
    if not node.outputs[0].readers and not node.outputs[0].is_output:
        raise Refused(Reason.UNREAD, node.outputs[0].name)
    walk.push(node.outputs[0], amap)
    if not walk.into and not amap.is_identity:
        raise Refused(Reason.UNREAD, node.outputs[0].name)
