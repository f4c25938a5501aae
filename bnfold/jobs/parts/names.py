"""What a submodule's results are called in the whole network, and what data reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bnfold.data import Data, Given, SampleOptions
from bnfold.errors import UsageError
from bnfold.planning import Decision, Plan
from bnfold.proof.congruence import Congruence
from bnfold.proof.verification import Verification

ALL = SampleOptions()
"""Every sample: which ones are taken is decided where the network is fed."""


def prefixed(plan: Plan, name: str) -> Plan:
    """The plan of a submodule, its layers under their names in the whole."""

    def whole(decision: Decision) -> Decision:
        into = tuple(f"{name}.{layer}" for layer in decision.into)
        return replace(decision, name=f"{name}.{decision.name}", into=into)

    return replace(plan, decisions=tuple(map(whole, plan.decisions)))


def joined(plans: Sequence[Plan], notes: Sequence[str]) -> Plan:
    """One plan of several; ``notes`` stand before their own."""
    own = dict.fromkeys(note for plan in plans for note in plan.notes)
    return Plan(
        tuple(decision for plan in plans for decision in plan.decisions),
        tuple(edit for plan in plans for edit in plan.edits),
        tuple(region for plan in plans for region in plan.regions),
        (*notes, *own),
    )


def proof_of_whole(proof: Verification, name: str) -> Verification:
    """The proof of a submodule, its outputs and pieces under names in the whole."""
    outputs = tuple(replace(o, name=f"{name}: {o.name}") for o in proof.outputs)
    pieces = tuple(replace(p, name=f"{name}.{p.name}") for p in proof.pieces or ())
    parting = tuple(replace(p, name=f"{name}.{p.name}") for p in proof.parting)
    return replace(
        proof,
        outputs=outputs,
        pieces=None if proof.pieces is None else pieces,
        parting=parting,
    )


def proofs_together(proofs: Sequence[Verification]) -> Verification:
    """One verdict on all submodules; at least one."""
    every = [proof.congruence for proof in proofs if proof.congruence is not None]
    congruence = Congruence(
        sum(part.calls for part in every),
        sum(part.tensors for part in every),
        sum(part.changed_tensors for part in every),
        tuple(difference for part in every for difference in part.differences),
    )
    pieces = tuple(piece for proof in proofs for piece in proof.pieces or ())
    return replace(
        proofs[0],
        inputs=f"{proofs[0].inputs}, each submodule by itself",
        outputs=tuple(output for proof in proofs for output in proof.outputs),
        congruence=congruence if every else None,
        pieces=pieces if any(proof.pieces is not None for proof in proofs) else None,
        problem=next((proof.problem for proof in proofs if proof.problem), None),
        parting=tuple(piece for proof in proofs for piece in proof.parting),
    )


def data_for(
    parts: Any, name: str, data: Data, sampling: SampleOptions, network: Any = None
) -> Data:
    """What reaches a submodule where the network, or ``network`` in its place, runs on ``data``.

    Raises:
        UsageError: where masks are named, whose frames are those of the network's own inputs.
    """
    if sampling.mask or sampling.padding:
        raise UsageError(
            "a mask says which frames of the network's own inputs count, and not which of a "
            "submodule's; leave out --mask and --padding, or --submodule"
        )
    return Given(parts.reaching(name, data, sampling, network), f"what reaches {name}")
