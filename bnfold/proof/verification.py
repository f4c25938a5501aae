"""The proof as a whole: diff of the files, each changed subgraph, end-to-end outputs, and the verdict.

A fold is verified where the written file is the original plus the plan, every piece that the plan
changes computes the same, and no output that can tell says otherwise. Nothing compared is never
verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bnfold.errors import RuntimeUnavailableError, UsageError
from bnfold.graph import Graph
from bnfold.planning import Plan
from bnfold.progress import Progress, no_progress, told
from bnfold.proof.bounds import Bounds
from bnfold.proof.channels import PieceComparison
from bnfold.proof.comparison import OutputComparison, compare
from bnfold.proof.congruence import Congruence
from bnfold.proof.divergence import Named, parting
from bnfold.proof.exported import compare_exported
from bnfold.proof.pieces import compare_pieces
from bnfold.proof.regions import regions_of
from bnfold.proof.steps import agree_to_a_step
from bnfold.proof.subject import Arrays, Fold, Reference, Runs

# A single draw moves what one parameter decides in one direction only. More of them raise the floor:
# where one is enough to pass, the others would be too.
DRAWS = 2


@dataclass(frozen=True)
class Verification:
    """The outcome. ``congruence`` and ``pieces`` are None where two models were compared that no
    plan connects. ``problem``: why a comparison could not be made at all. ``parting``: where two
    models part, among the values that both name."""

    runtime: str
    inputs: str
    outputs: tuple[OutputComparison, ...]
    congruence: Congruence | None = None
    pieces: tuple[PieceComparison, ...] | None = None
    problem: str | None = None
    parting: tuple[PieceComparison, ...] = ()

    @property
    def decided(self) -> bool:
        """Whether anything that was compared could have shown a difference."""
        if self.congruence is None:
            return any(o.informs for o in self.outputs)
        if self.pieces:
            informed = {o.name for o in self.outputs if o.informs}
            return all(p.informs or informed & p.seen_in for p in self.pieces)
        return self.congruence.calls > 0  # nothing was changed: the file is a copy

    @property
    def differs(self) -> bool:
        """Whether something was found that is not the same."""
        congruent = self.congruence is None or self.congruence.passed
        same = all(o.passed for o in self.outputs) and all(p.passed for p in self.pieces or ())
        return self.problem is not None or not congruent or not same

    @property
    def passed(self) -> bool:
        return self.decided and not self.differs

    @property
    def of_a_copy(self) -> bool:
        """Whether nothing was to change, and nothing did: the files say the same, bit for bit."""
        found = self.congruence
        return self.passed and not self.pieces and found is not None and not found.changed_tensors

    @property
    def first_wrong(self) -> str | None:
        """The first piece whose value is wrong, in the order of the network."""
        return next((p.name for p in self.pieces or () if not p.passed), None)

    @property
    def worst_piece(self) -> PieceComparison | None:
        return max(self.pieces or (), key=lambda p: p.ratio, default=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "decided": self.decided,
            "runtime": self.runtime,
            "inputs": self.inputs,
            "congruence": None if self.congruence is None else self.congruence.to_json(),
            "pieces": None if self.pieces is None else [p.to_json() for p in self.pieces],
            "outputs": [o.to_json() for o in self.outputs],
            "first_wrong": self.first_wrong,
            "problem": self.problem,
            "parting": [p.to_json() for p in self.parting],
        }


def prove(
    fold: Fold,
    graph: Graph,
    plan: Plan,
    feeds: Sequence[Arrays],
    inputs: str,
    progress: Progress = no_progress,
) -> Verification:
    """Proves a fold.

    Args:
        fold: the original file and the written one.
        graph: the original's neutral graph.
        plan: what was done to it.
        feeds: inputs of the whole network, at least one set.
        inputs: where they come from, for the report.
        progress: called with the stage, and how much of how much is done.

    Raises:
        RuntimeUnavailableError: where the original does not run.
    """
    references = outputs_of(fold.reference, told(progress, "running the original", feeds))
    progress("comparing the files", 0, 1)
    congruence = fold.congruence()
    pieces: tuple[PieceComparison, ...] = ()
    outputs: tuple[OutputComparison, ...] = ()
    problem = None
    least = min(range(len(feeds)), key=lambda i: sum(a.size for a in feeds[i].values()))
    try:
        if congruence.passed and plan.edits:
            cut = fold.pieces(regions_of(graph, plan), congruence.names)
            pieces = compare_pieces(fold, cut, feeds[least], references[least], progress)
            if (exported := fold.exported(congruence.names)) is not None:
                leaving = [each for piece in cut for each in piece.outputs]
                names = list(references[0])
                pieces += compare_exported(fold, exported, leaving, feeds[least], names)
        outputs = _end_to_end(references, fold.reference, fold.candidate, feeds, progress=progress)
        proved = bool(pieces) and all(p.passed and p.informs for p in pieces)
        if proved:
            outputs = _to_a_step(tuple(map(_overruled, outputs)), references, fold, feeds)
    except RuntimeUnavailableError as error:
        problem = f"the written file does not run: {error}"
    runtime = fold.candidate.runtime
    return Verification(runtime, inputs, outputs, congruence, pieces, problem)


def _overruled(output: OutputComparison) -> OutputComparison:
    """Where every piece is proved, an error of some rounding floors that is still far below the
    output's range is the runtime's own rounding: long sums are rounded by more than their
    parameters, and differently in front of a fold and behind it."""
    if output.passed or not output.is_small:
        return output
    return replace(output, informs=False, passed=True)


def _to_a_step(
    outputs: tuple[OutputComparison, ...],
    references: Sequence[Arrays],
    fold: Fold,
    feeds: Sequence[Arrays],
) -> tuple[OutputComparison, ...]:
    """Where every piece is proved, and values are rounded to integers behind them, outputs may differ by
    what one step here and there does to them; that informs of nothing."""
    names = [o.name for o in outputs if not o.passed]
    if not names:
        return outputs
    candidates = outputs_of(fold.candidate, feeds)
    pairs = zip(feeds, references, candidates, strict=True)
    if not all(agree_to_a_step(fold.reference, f, a, b, names) for f, a, b in pairs):
        return outputs
    return tuple(o if o.passed else replace(o, informs=False, passed=True) for o in outputs)


def verify(
    reference: Reference,
    candidate: Runs,
    feeds: Sequence[Arrays],
    inputs: str,
    bounds: Bounds | None = None,
    progress: Progress = no_progress,
) -> Verification:
    """Compares any two models of the same signature on the same inputs.

    Args:
        reference: the model to trust.
        candidate: the other.
        feeds: inputs, at least one set.
        inputs: where they come from, for the report.
        bounds: judge by these in place of the reference's rounding floor.
        progress: called with the stage, and how much of how much is done.

    Raises:
        RuntimeUnavailableError: where one of them does not run.
        UsageError: where their outputs differ in name.
    """
    references = outputs_of(reference, told(progress, "running the reference", feeds))
    outputs = _end_to_end(references, reference, candidate, feeds, bounds, progress)
    found = Verification(candidate.runtime, inputs, outputs)
    if not found.differs or not isinstance(reference, Named) or not isinstance(candidate, Named):
        return found
    return replace(found, parting=parting(reference, candidate, feeds[0]))


def outputs_of(model: Runs, feeds: Iterable[Arrays]) -> list[Arrays]:
    """The outputs of a model on each set of inputs.

    Raises:
        RuntimeUnavailableError: where it does not run.
    """
    found = [model.outputs(f) for f in feeds]
    model.release()
    return found


def _end_to_end(
    references: Sequence[Arrays],
    reference: Reference,
    candidate: Runs,
    feeds: Sequence[Arrays],
    bounds: Bounds | None = None,
    progress: Progress = no_progress,
) -> tuple[OutputComparison, ...]:
    """Every output of both models on the same inputs."""
    candidates = outputs_of(candidate, told(progress, "running the other", feeds))
    if missing := [name for name in references[0] if name not in candidates[0]]:
        raise UsageError(
            f"the models return different outputs ({', '.join(references[0])} and "
            f"{', '.join(candidates[0])}; {missing[0]} is missing); "
            "only models with the same signature can be compared"
        )
    perturbed = [[reference.perturbed(f, 0)] for f in told(progress, "comparing", feeds)]
    while True:
        found = _compared(references, candidates, perturbed, bounds)
        if len(perturbed[0]) == DRAWS or all(o.passed and o.informs for o in found):
            return found
        perturbed[0].append(reference.perturbed(feeds[0], len(perturbed[0])))


def _compared(
    references: Sequence[Arrays],
    candidates: Sequence[Arrays],
    perturbed: Sequence[Sequence[Arrays]],
    bounds: Bounds | None,
) -> tuple[OutputComparison, ...]:
    return tuple(
        compare(
            name,
            [r[name] for r in references],
            [c[name] for c in candidates],
            [[draw[name] for draw in each] for each in perturbed],
            bounds,
        )
        for name in references[0]
    )
