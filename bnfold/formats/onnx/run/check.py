"""Benches for ONNX: the original with exposed parameters beside the candidate, whole or in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.formats.onnx.edit.working_copy import WorkingCopy
from bnfold.formats.onnx.file.tensors import TensorStore
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.run.double import run_in_double
from bnfold.formats.onnx.run.session import Session
from bnfold.formats.onnx.run.variants import Compute, cut, exposed, start, with_outputs
from bnfold.graph import Constant, Node
from bnfold.planning import Plan
from bnfold.proof.regions import borders, touched_nodes
from bnfold.proof.verification import DRAWS, Arrays, PreciseRun, perturb

RUNTIME = "onnxruntime"


class OnnxBench:
    """Two sessions. The reference takes its parameters as feeds."""

    def __init__(
        self, reference: Session, parameters: Mapping[str, Constant], candidate: Session
    ) -> None:
        import onnxruntime as ort

        self.runtime = f"{RUNTIME} {ort.__version__}, graph optimisations off"
        self._reference, self._candidate = reference, candidate
        self._parameters = {
            name: np.asarray(constant.load())
            for name, constant in parameters.items()
            if name in reference.inputs
        }

    def reference(self, feeds: Arrays) -> Arrays:
        return self._reference.run(self._known(self._reference, feeds) | self._parameters)

    def perturbed(self, feeds: Arrays, draw: int) -> Arrays:
        return self._reference.run(self._known(self._reference, feeds) | self._moved(draw))

    def _moved(self, draw: int) -> dict[str, NDArray[Any]]:
        rng = np.random.default_rng(draw + 1)
        return {name: perturb(array, rng) for name, array in self._parameters.items()}

    def candidate(self, feeds: Arrays) -> Arrays:
        return self._candidate.run(self._known(self._candidate, feeds))

    @staticmethod
    def _known(session: Session, feeds: Arrays) -> dict[str, NDArray[Any]]:
        return {name: array for name, array in feeds.items() if name in session.inputs}


class OnnxLocalBench(OnnxBench):
    """The pieces around all folds, fed with the original network's activations."""

    def __init__(
        self,
        activations: Session,
        reference: Session,
        parameters: Mapping[str, Constant],
        candidate: Session,
        renamed: Mapping[str, str],
        borders: Sequence[str],
        precise: Mapping[str, tuple[onnx.ModelProto, TensorStore, Mapping[str, Compute]]],
    ) -> None:
        super().__init__(reference, parameters, candidate)
        self._activations = activations
        self._renamed = renamed
        self._borders = borders
        self._precise = precise

    def inputs(self, feeds: Arrays) -> Arrays:
        known = self._known(self._activations, feeds)
        return {**feeds, **self._activations.run(known)}

    def candidate(self, feeds: Arrays) -> Arrays:
        names = self._renamed
        found = super().candidate({names.get(name, name): array for name, array in feeds.items()})
        return {name: found[names.get(name, name)] for name in self._reference.outputs}

    def in_double(self, name: str, feeds: Arrays) -> PreciseRun | None:
        model, store, computed = self._precise["reference"]
        types = {v: feeds[v].dtype for v in self._borders if v in feeds}
        piece = cut(model, types, [name])
        names = self._renamed
        other, _, new = self._precise["candidate"]
        inner = names.get(name, name)
        piece2 = cut(other, {names.get(v, v): t for v, t in types.items()}, [inner])
        renamed = {names.get(v, v): array for v, array in feeds.items()}
        try:
            reference = run_in_double(piece, store, computed, {**feeds, **self._parameters})
            candidate = run_in_double(piece2, store, new, renamed)
            moved = [
                run_in_double(piece, store, computed, {**feeds, **self._moved(draw)})
                for draw in range(DRAWS)
            ]
        except NotImplementedError:
            return None
        return PreciseRun(reference[name], candidate[inner], [m[name] for m in moved])


def fold_bench(model: OnnxModel, plan: Plan, candidate: Path, scratch: Path) -> OnnxBench:
    """The original of ``plan`` beside the folded file ``candidate``."""
    return bench(model, touched_nodes(plan), candidate, scratch)


def bench(model: OnnxModel, nodes: Iterable[Node], candidate: Path, scratch: Path) -> OnnxBench:
    """A model with the parameters of ``nodes`` exposed beside another model's file.

    Raises:
        RuntimeUnavailableError: where onnxruntime does not run one of them.
    """
    proto, parameters = exposed(model, nodes)
    reference = start(proto, model.store, {}, scratch / "reference.onnx")
    return OnnxBench(reference, parameters, Session(candidate))


def local_bench(
    model: OnnxModel, plan: Plan, draft: WorkingCopy, feeds: Arrays, scratch: Path
) -> OnnxLocalBench | None:
    """The pieces that the plan changes, cut out of original and candidate.

    None where there are none, or where one lies in a control-flow body and cannot be observed.
    """
    inputs, outputs = borders(model.graph, plan)
    if not outputs or any(v.scope for v in (*inputs, *outputs)):
        return None
    proto, parameters = exposed(model, touched_nodes(plan))
    activations = start(
        with_outputs(model.proto, [v.name for v in inputs]), model.store, {}, scratch / "whole.onnx"
    )
    known = {n: a for n, a in feeds.items() if n in activations.inputs}
    values = {**feeds, **activations.run(known)}
    types = {v.name: values[v.name].dtype for v in inputs}
    wanted = [v.name for v in outputs]
    reference = start(cut(proto, types, wanted), model.store, {}, scratch / "reference-pieces.onnx")
    renamed = draft.renamed
    candidate = start(
        cut(
            draft.proto,
            {renamed.get(name, name): dtype for name, dtype in types.items()},
            [renamed.get(name, name) for name in wanted],
        ),
        model.store,
        draft.computed,
        scratch / "candidate-pieces.onnx",
    )
    precise = {
        "reference": (proto, model.store, {}),
        "candidate": (draft.proto, model.store, draft.computed),
    }
    return OnnxLocalBench(
        activations, reference, parameters, candidate, renamed, list(types), precise
    )
