"""What `fold` writes: the same numbers, fewer nodes, a valid file, and nothing else touched."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bnfold
from situations import SITUATIONS
from situations.build import Situation, operators
from situations.fold import Folder
from situations.run import as_double, error, feeds_for, run, run_in_double

EXACT = 1e-9  # of float64, whose rounding lies near 1e-16

by_name = pytest.mark.parametrize("situation", SITUATIONS, ids=str)


@pytest.mark.parametrize("situation", [s for s in SITUATIONS if s.runs], ids=str)
def test_outputs_agree(situation: Situation, folder: Folder) -> None:
    folded = folder.situation(situation)
    for feeds in feeds_for(folded.before, situation.sizes):
        assert error(run(folded.source, feeds), run(folded.target, feeds)) <= situation.tolerance


@pytest.mark.parametrize("situation", [s for s in SITUATIONS if s.doubles], ids=str)
def test_outputs_agree_exactly_in_float64(situation: Situation, folder: Folder) -> None:
    """Where the weights are doubles, no rounding hides a wrong fold."""
    folded = folder(
        f"{situation.name}_double", lambda: as_double(situation.build()),
        freeze=situation.freeze, verify=False,
    )  # fmt: skip
    singles = folder.situation(situation).result.plan.decisions
    assert folded.result.plan.decisions == singles
    for feeds in feeds_for(folded.before, situation.sizes):
        ours, theirs = (run_in_double(m, feeds) for m in (folded.before, folded.after))
        assert error(ours, theirs) <= EXACT


@by_name
def test_operators_left(situation: Situation, folder: Folder) -> None:
    """A BatchNorm that is folded is gone, and no arithmetic stands in its place."""
    folded = folder.situation(situation)
    assert operators(folded.after.graph) == situation.operators_after()
    assert folded.result.nodes_after == sum(operators(folded.after.graph).values())


@by_name
def test_valid_and_otherwise_untouched(situation: Situation, folder: Folder) -> None:
    folded = folder.situation(situation)
    before, after = folded.before, folded.after
    _check(folded.target)
    for field in ("ir_version", "producer_name", "doc_string", "domain", "model_version"):
        assert getattr(before, field) == getattr(after, field)
    own = [p for p in after.metadata_props if not p.key.startswith("bnfold.")]
    assert list(before.metadata_props) == own
    assert before.opset_import[0].version == after.opset_import[0].version
    assert before.graph.name == after.graph.name
    assert list(before.graph.output) == list(after.graph.output)
    given = {t.name for t in before.graph.initializer}
    inputs = [[i for i in m.graph.input if i.name not in given] for m in (before, after)]
    new = {t.name for t in after.graph.initializer}
    assert inputs[0] == [i for i in inputs[1] if i.name not in new]
    if before.ir_version >= 4 and not situation.freeze:
        assert list(before.graph.input) == list(after.graph.input)
    if situation.freeze:
        assert not {i.name for i in after.graph.input} & {t.name for t in after.graph.initializer}


@by_name
def test_folding_again_changes_nothing(situation: Situation, folder: Folder) -> None:
    folded = folder.situation(situation)
    model = bnfold.load(folded.target)
    plan = bnfold.fold(model, None).plan
    assert not [d for d in plan.decisions if d.reason is None]


def _check(path: Path) -> None:
    """onnx.checker accepts it; two nodes of one name, which the file had before, are no matter."""
    onnx.checker.check_model(onnx.load(path))


def _node_names(model: onnx.ModelProto) -> Counter[str]:
    return Counter(n.name for n in model.graph.node if n.name)


@by_name
def test_names_stay_unique(situation: Situation, folder: Folder) -> None:
    folded = folder.situation(situation)
    new = _node_names(folded.after) - _node_names(folded.before)
    assert all(count == 1 for count in new.values())
    tensors = Counter(t.name for t in folded.after.graph.initializer)
    assert all(count == 1 for count in tensors.values())


def test_neutral_norm_leaves_every_weight_alone(folder: Folder) -> None:
    from situations.build import Net

    def build() -> onnx.ModelProto:
        net = Net()
        y = net.conv(net.input("N", 3, "H", "W"), 3, 4)
        return net.model(net.bn(y, 4, scale=1, shift=0, mean=0, variance=1, epsilon=0.0))

    folded = folder("neutral_after_conv", build)
    before, after = (
        {t.name: numpy_helper.to_array(t) for t in m.graph.initializer}
        for m in (folded.before, folded.after)
    )
    assert after.keys() == {"conv.weight", "conv.bias"}
    for name, array in after.items():
        np.testing.assert_array_equal(array, before[name])
