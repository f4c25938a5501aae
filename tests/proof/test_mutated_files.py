"""Whatever is changed in a written file, the proof refuses it: fields of the message at random."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import onnx
import pytest

from bnfold.errors import BnfoldError, ModelNotLoadedError
from bnfold.formats.onnx.format import FORMAT
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.graph.scopes import bodies_of
from bnfold.planning import make_plan
from bnfold.proof.verification import prove
from robustness.mutate_onnx import changed
from situations import constants, gauges, linear, movement, nested, sequences, types
from situations.build import Table
from situations.fold import save

TABLES = {
    module.__name__: module.TABLE
    for module in (constants, gauges, linear, movement, nested, sequences, types)
}
MODELS, MUTATIONS = 3, 8


@pytest.mark.parametrize("family", TABLES)
def test_no_change_of_a_written_file_passes(family: str, tmp_path: Path) -> None:
    rng = random.Random(family)
    tried = 0
    while tried < MODELS * MUTATIONS:
        fold = _folded(TABLES[family], rng, tmp_path)
        if fold is None:
            continue
        model, plan, edited, written, feeds = fold
        right = onnx.load(written)
        for _ in range(MUTATIONS):
            wrong = changed(right, rng)
            if _meaning(wrong) == _meaning(right):
                continue
            tried += 1
            written.write_bytes(wrong.SerializeToString())
            try:
                found = prove(FORMAT.fold(edited, written), model.graph, plan, feeds, "generated")
            except BnfoldError:
                continue  # the file does not even open
            assert not found.passed, f"{model.path}: {_difference(right, wrong)}"


def _folded(table: Table, rng: random.Random, place: Path) -> Any:
    """A model, its plan, the edits, what was written, inputs; None where nothing folds or runs."""
    model = OnnxModel(save(rng.choice(table).build(), place / "m.onnx"))
    plan = make_plan(model.graph)
    if not plan.edits:
        return None
    try:
        feeds = FORMAT.generated_inputs(model)
    except ModelNotLoadedError:
        return None
    edited = FORMAT.edit(model, plan)
    return model, plan, edited, edited.write(place / "f.onnx")[-1], feeds


def _meaning(model: onnx.ModelProto) -> bytes:
    """The message without what says nothing: the order of nodes, which runtimes do not mind, and
    whether the standard domain is written down."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for opset in copy.opset_import:
        opset.domain = opset.domain
    _sort(copy.graph)
    return bytes(copy.SerializeToString(deterministic=True))


def _sort(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        for body in bodies_of(node):
            _sort(body)
    ordered = sorted(node.SerializeToString(deterministic=True) for node in graph.node)
    del graph.node[:]
    graph.node.extend(onnx.NodeProto.FromString(node) for node in ordered)


def _difference(right: onnx.ModelProto, wrong: onnx.ModelProto) -> str:
    a, b = str(right).splitlines(), str(wrong).splitlines()
    return " | ".join(line for line in b if line not in a) or f"{len(a)} lines became {len(b)}"
