"""What the rules look at: the BatchNorm layers in order, each with its neighbours and its decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.audit.drift import Drift, Observed
from bnfold.audit.thresholds import Thresholds
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Linear, Movement, Norm
from bnfold.planning import Decision, Plan, Reason

# The smallest normal number of float32: what lies below it is denormal in the file.
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Layer:
    """One BatchNorm. ``index`` counts from 0 in the order of the network."""

    index: int
    node: Node
    norm: Norm
    decision: Decision | None = None
    observed: Observed | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def epsilon(self) -> float:
        """NaN where nobody knows it (a checkpoint has none): every comparison with it is false
        then, and the rules that need it are silent by themselves."""
        return float("nan") if self.norm.epsilon is None else self.norm.epsilon

    @property
    def reason(self) -> Reason | None:
        """Why the plan keeps it, None where it goes."""
        refusal = self.decision.reason if self.decision else None
        return refusal.reason if refusal else None

    @property
    def sentence(self) -> str:
        """The plan's own sentence about that reason."""
        refusal = self.decision.reason if self.decision else None
        return refusal.message if refusal else ""

    @cached_property
    def is_known(self) -> bool:
        """Whether its parameters stand in the file (a reader puts NaN where they do not)."""
        arrays = (self.norm.mean, self.norm.variance, self.norm.scale, self.norm.shift)
        if any(not array.size for array in arrays):
            return False
        computed = self.norm.obstacle is not None and self.norm.obstacle.code != "NO_GRAPH"
        return not (computed and any(np.isnan(a).all() for a in arrays))

    @cached_property
    def gain(self) -> Array:
        """What each channel is multiplied by, in magnitude; NaN where that is no finite number."""
        norm = self.norm
        with np.errstate(all="ignore"):
            gain: Array = np.abs(norm.scale / np.sqrt(norm.variance + self.epsilon))
        return np.where(np.isfinite(gain), gain, np.nan)

    @property
    def dead_below(self) -> float:
        """The largest variance of a dead channel; for an unknown epsilon, with every usual one."""
        epsilon = self.thresholds.epsilon_min if self.norm.epsilon is None else self.norm.epsilon
        return max(self.thresholds.dead_variance * epsilon, _TINY)

    @cached_property
    def dead(self) -> NDArray[np.bool_]:
        """Channels whose input does not vary: they hand on a constant."""
        return np.asarray((self.norm.variance >= 0) & (self.norm.variance <= self.dead_below))

    @cached_property
    def is_untouched(self) -> bool:
        """Mean 0 and variance 1 in every channel: as a framework makes a new layer."""
        return bool((self.norm.mean == 0).all() and (self.norm.variance == 1).all())

    @cached_property
    def drift(self) -> Drift | None:
        """Stored against observed statistics, None where there is nothing to compare."""
        seen = self.observed
        if seen is None or not self.is_known or seen.mean.shape != self.norm.mean.shape:
            return None
        return Drift.of(self.norm, seen, self.dead_below)

    @property
    def source(self) -> Value:
        return self.node.inputs[0]

    @property
    def linear_before(self) -> Node | None:
        """The linear layer directly in front of it, with no activation of its own."""
        producer = self.source.producer
        if producer is None or not isinstance(producer.kind, Linear):
            return None
        return producer if producer.kind.activation is None else None

    def before(self) -> Iterator[Node]:
        """The node in front of it, and what stands before that, through mere movements."""
        producer = self.source.producer
        while producer is not None:
            yield producer
            if not isinstance(producer.kind, Movement) or not producer.inputs:
                return
            producer = producer.inputs[0].producer


@dataclass(frozen=True, eq=False)
class Subject:
    """One model under audit."""

    graph: Graph
    plan: Plan
    layers: tuple[Layer, ...]
    thresholds: Thresholds

    @classmethod
    def of(
        cls,
        graph: Graph,
        plan: Plan,
        observed: Mapping[str, Observed] | None,
        thresholds: Thresholds,
    ) -> Subject:
        decisions = {decision.name: decision for decision in plan.batch_norms}
        layers = []
        for index, node in enumerate(graph.norms):
            assert isinstance(node.kind, Norm)
            seen = observed.get(node.name) if observed else None
            decision = decisions.get(node.name)
            layers.append(Layer(index, node, node.kind, decision, seen, thresholds))
        return cls(graph, plan, tuple(layers), thresholds)

    def named(self, names: Sequence[str]) -> list[Node]:
        """The nodes of these names."""
        return [self._by_name[name] for name in names if name in self._by_name]

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.graph.nodes}

    @property
    def known(self) -> tuple[Layer, ...]:
        """The layers whose parameters stand in the file."""
        return tuple(layer for layer in self.layers if layer.is_known)

    @property
    def compared(self) -> tuple[tuple[Layer, Drift], ...]:
        """The layers of which observations exist, with their drift.

        Untouched statistics are left out: they were never measured, so nothing drifted from them.
        """
        return tuple(
            (layer, layer.drift)
            for layer in self.layers
            if layer.drift is not None and not layer.is_untouched
        )
