"""Folded weights for an unchanged module class: every folded BatchNorm stays, as an identity.

A BatchNorm with mean 0, variance 1 - epsilon and scale 1 computes nothing but its shift. Where the
layer that took the fold has no bias of its own, the shift stays there. Some folds have no such
form (a weight that several layers read, a fold across a concatenation into layers without bias):
these are left as they were, with whatever shares a layer with them, and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.fx import Node as Call

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import cast
from bnfold.formats.torch.edit.editor import flow_argument, weight_argument
from bnfold.formats.torch.file.tensors import same_memory, to_torch
from bnfold.formats.torch.graph.arguments import arguments_of
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.graph import Node
from bnfold.kinds import Affine, Linear, Norm
from bnfold.planning import Action, Direction, Plan
from bnfold.planning.decision import (
    Bypass,
    Decision,
    Edit,
    MergeBranches,
    Reconstant,
    Refusal,
    Renorm,
    Reweight,
)
from bnfold.planning.reasons import Reason


class _Impossible(Exception):
    """Raised where an edit has no form in the unchanged class."""


@dataclass
class Kept:
    """A state dict for the unchanged class, and what of the plan could go into it."""

    tensors: dict[str, torch.Tensor]
    plan: Plan
    changed: list[str] = field(default_factory=list)


def keep_modules(model: TorchModel, plan: Plan) -> Kept:
    """The weights of ``plan`` in the names and shapes of the original.

    Tensors are the original's where nothing changed; no name is added or removed.
    """
    writer = _Writer(model)
    not_possible: set[str] = set()
    done: list[Edit] = []
    for names, edits in _components(plan):
        staged: dict[str, torch.Tensor] = {}
        try:
            for edit in edits:
                writer.stage(edit, edits, staged)
        except _Impossible:
            not_possible |= set(names)
        else:
            writer.tensors |= staged
            writer.changed += sorted(staged)
            done += edits
    return Kept(writer.tensors, _carried_out(plan, not_possible, done), writer.changed)


def _carried_out(plan: Plan, not_possible: set[str], done: Sequence[Edit]) -> Plan:
    """The plan without what had no place; an affine that stays is no decision, and a note."""
    own = [d for d in plan.decisions if d.source == "batch_norm" or d.name not in not_possible]
    decisions = tuple(_left_out(d) if d.name in not_possible else d for d in own)
    lost = [d.name for d in plan.affines if d.name in not_possible]
    note = (
        f"{len(lost)} products and sums with constants have no place in the unchanged class and stay "
        f"({', '.join(lost[:3])}{', …' if len(lost) > 3 else ''})"
    )
    notes = (*plan.notes, note) if lost else plan.notes
    return replace(plan, decisions=decisions, edits=tuple(done), notes=notes)


def _left_out(decision: Decision) -> Decision:
    reason, culprit = Reason.UNCHANGED_CLASS, decision.into[0] if decision.into else None
    refusal = Refusal(reason, culprit, reason.sentence(culprit))
    return Decision(decision.name, decision.source, Action.KEEP, reason=refusal)


def _components(plan: Plan) -> list[tuple[list[str], list[Edit]]]:
    """Decisions that share a layer, and the edits that carry them out."""
    parts: list[tuple[list[str], set[str]]] = [
        ([], {edit.node.name, *(node.name for node in edit.gone)})
        for edit in plan.edits
        if isinstance(edit, MergeBranches)
    ]
    folded = [d for d in plan.decisions if d.action is not Action.KEEP]
    if any(d.direction is Direction.BOTH for d in folded):  # all of these hold together only
        parts.append(([], {edit.node.name for edit in plan.edits}))
    parts += [([d.name], {d.name, *d.into}) for d in folded]
    groups: list[tuple[list[str], set[str]]] = []
    for names, nodes in parts:
        for group in [g for g in groups if g[1] & nodes]:
            groups.remove(group)
            names, nodes = group[0] + names, nodes | group[1]
        groups.append((names, nodes))
    return [(names, [e for e in plan.edits if e.node.name in nodes]) for names, nodes in groups]


class _Writer:
    def __init__(self, model: TorchModel) -> None:
        self.model = model
        self.tensors: dict[str, torch.Tensor] = {
            name: tensor.detach() for name, tensor in model.program.state_dict.items()
        }
        self.changed: list[str] = []

    def stage(self, edit: Edit, group: list[Edit], staged: dict[str, torch.Tensor]) -> None:
        """Puts what ``edit`` needs into ``staged``.

        Raises:
            _Impossible: where the unchanged class has no place for it.
        """
        if isinstance(edit, Reweight):
            self._reweight(edit, group, staged)
        elif isinstance(edit, Renorm):
            self._set(edit.node, "weight", edit.scale, staged)
            self._set(edit.node, "bias", edit.shift, staged)
        elif isinstance(edit, Bypass):
            self._neutral(edit.node, staged)
        elif isinstance(edit, Reconstant):
            self._set(edit.node, _operand(edit.node), edit.constant, staged)
        else:
            raise _Impossible

    def _reweight(self, edit: Reweight, group: list[Edit], staged: dict[str, torch.Tensor]) -> None:
        node, kind = edit.node, edit.node.kind
        assert isinstance(kind, Linear)
        if edit.out_scale is not None or edit.in_scale is not None:
            scaled = kind.layout.scaled(kind.weight.load(), edit.out_scale, edit.in_scale)
            self._set(node, weight_argument(node), scaled, staged)
        if not edit.bias_changed or edit.bias is None:
            return
        if kind.bias is not None and node.native.bias_add is None and kind.bias_factor == 1:
            self._set(node, "bias" if node.op != "addmm" else "self", edit.bias, staged)
        elif kind.bias is None and np.any(edit.bias != 0):
            norm, flat = _norm_behind(node, group), edit.bias.reshape(-1)
            if flat.size not in (1, kind.layout.outputs):
                raise _Impossible
            self._neutral(norm, staged)
            shift = np.broadcast_to(flat, (kind.layout.outputs,))
            if self._call_argument(norm, "bias") is not None:
                self._set(norm, "bias", shift, staged)
            else:
                self._set(norm, "running_mean", -shift, staged)
        elif kind.bias is not None:
            raise _Impossible

    def _neutral(self, node: Node, staged: dict[str, torch.Tensor]) -> None:
        """Makes a node that was folded compute nothing, where it does not hold a shift already."""
        kind = node.kind
        if isinstance(kind, Affine):
            if kind.constant is None or kind.form == "c-x":
                raise _Impossible
            neutral = 1.0 if kind.form in ("x*c", "x/c") else 0.0
            self._set(node, _operand(node), np.full(kind.constant.shape, neutral), staged)
            return
        assert isinstance(kind, Norm)
        if kind.epsilon is None:
            raise _Impossible
        if self._target(node, "running_mean") in staged:
            return
        zero, one = np.zeros(kind.channels), np.ones(kind.channels)
        self._set(node, "running_mean", zero, staged)
        self._set(node, "running_var", one - kind.epsilon, staged)
        for name, array in (("weight", one), ("bias", zero)):
            if self._call_argument(node, name) is not None:
                self._set(node, name, array, staged)

    def _set(
        self, node: Node, argument: str, array: Array, staged: dict[str, torch.Tensor]
    ) -> None:
        target = self._target(node, argument)
        old = None if target is None else self.tensors.get(target)
        if target is None or old is None:
            raise _Impossible
        read = self._call_argument(node, argument)
        constant = None if read is None else self.model.constants.find(read)
        assert constant is not None
        while array.ndim > old.ndim and array.shape[0] == 1:
            array = array[0]
        if np.broadcast_shapes(array.shape, old.shape) != tuple(old.shape):
            raise _Impossible
        full = np.broadcast_to(array, tuple(old.shape))
        staged[target] = to_torch(cast(full, constant.dtype)).to(old.device)

    def _target(self, node: Node, argument: str) -> str | None:
        """The name of a parameter that this node alone reads, once, under no second name."""
        read = self._call_argument(node, argument)
        bodies, frozen = self.model.constants.bodies, node.native.frozen
        if read is None or (frozen is not None and frozen.calls > 1):
            return None
        if frozen is None and bodies.readers(bodies.origin(read)) != [node.native.call]:
            return None
        target = self.model.constants.parameter(read)
        tensors = self.model.program.state_dict
        if target not in tensors:
            return None
        aliases = [name for name, t in tensors.items() if same_memory(t, tensors[target])]
        return target if aliases == [target] else None

    @staticmethod
    def _call_argument(node: Node, argument: str) -> Call | None:
        if isinstance(node.kind, Norm):
            parameter: Call | None = node.native.parameter(argument)
            return parameter
        found: Any = arguments_of(node.native.call).get(argument)
        return found if isinstance(found, Call) else None


def _operand(node: Node) -> str:
    return "other" if flow_argument(node) == "self" else "self"


def _norm_behind(node: Node, group: list[Edit]) -> Node:
    """The norm that was folded out right behind a layer and reads nothing else."""
    value = node.outputs[0]
    bypassed = {e.node for e in group if isinstance(e, Bypass)}
    if len(value.readers) == 1 and not value.is_output:
        reader = value.readers[0]
        if isinstance(reader.kind, Norm) and reader in bypassed:
            return reader
    raise _Impossible
