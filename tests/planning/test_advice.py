"""What a reason says is true: who follows its advice gets the fold, and "no exact fold" is a theorem."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.planning import Action, make_plan
from situations import BY_NAME, SITUATIONS
from situations.build import Net
from situations.fold import save


def _parallel() -> onnx.ModelProto:
    """An identity branch with a norm of its own on a value that others read."""
    net = Net()
    x = net.relu(net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1), "stem"), "start")
    wide = net.bn(net.conv(x, 4, 4, (3, 3), "wide", pads=[1] * 4), 4, "bn0")
    total = net.op("Add", wide, net.bn(x, 4, "bn1"), name="sum")
    return net.model(net.relu(total, "end"))


def test_it_goes_with_reparameterize(tmp_path: Path) -> None:
    path = save(_parallel(), tmp_path / "a.onnx")
    plan = make_plan(bnfold.load(path).graph)
    (reason,) = [d.reason for d in plan.batch_norms if d.reason]
    assert reason.message.endswith("it goes with --reparameterize")
    assert make_plan(bnfold.load(path).graph, reparameterize=True).kept == 0


def test_it_folds_with_freeze_initializers(tmp_path: Path) -> None:
    advised = 0
    for situation in SITUATIONS:
        reasons = [e.reason for e in situation.norms.values()]
        if "overridable_initializer" not in reasons or situation.freeze:
            continue
        path = save(situation.build(), tmp_path / f"{situation.name}.onnx")
        frozen = make_plan(bnfold.load(path, freeze_initializers=True).graph)
        left = {d.reason.reason.code for d in frozen.batch_norms if d.reason}
        assert "overridable_initializer" not in left
        advised += 1
    assert advised


def test_positive_scales_free_the_layer(tmp_path: Path) -> None:
    """What the page of BN204 says of negative scales."""
    situation = BY_NAME["pre_activation_with_negative_scales"]
    model = situation.build()
    path = save(model, tmp_path / "a.onnx")
    (reason,) = [d.reason for d in make_plan(bnfold.load(path).graph).batch_norms if d.reason]
    assert reason.reason.code == "negative_scale" and "2 of 4 scales are negative" in reason.message
    for tensor in model.graph.initializer:
        if tensor.name == "bn0.scale":
            array = np.abs(np.frombuffer(tensor.raw_data, np.float32))
            tensor.raw_data = array.tobytes()
    path = save(model, tmp_path / "b.onnx")
    assert make_plan(bnfold.load(path).graph).kept == 0


@pytest.mark.parametrize(
    ("name", "claimed"),
    [
        ("pre_activation_and_the_trunk_before_is_an_output", True),
        ("pre_activation_and_an_activation_reads_the_trunk", True),
        ("pre_activation_and_a_padded_layer_reads_the_trunk", True),
        ("product_of_two_values", False),  # its factors were given gauges by choice
        ("convolution_is_read_by_a_custom_shape", False),  # nobody knows what that operator allows
        ("indices_of_the_maxima_in_use", False),
    ],
)
def test_no_exact_fold_is_said_where_it_is_a_theorem(
    name: str, claimed: bool, tmp_path: Path
) -> None:
    path = save(BY_NAME[name].build(), tmp_path / "a.onnx")
    plan = make_plan(bnfold.load(path).graph)
    kept = [d for d in plan.batch_norms if d.action is Action.KEEP]
    assert kept
    for decision in kept:
        assert decision.reason is not None
        assert ("no exact fold exists" in decision.reason.message) is claimed


def _heads(samples: int | str) -> onnx.ModelProto:
    """Attention with the heads of all samples on one axis, as many networks have it."""
    net = Net()
    x = net.input(samples, 4, 5)
    q = net.op("Reshape", x, net.ints(-1, 2, 5), name="queries")
    v = net.op("Reshape", net.conv(x, 4, 4, (1,), "values"), net.ints(-1, 2, 5), name="heads")
    score = net.op("MatMul", net.op("Transpose", q, name="flip", perm=[0, 2, 1]), q, name="score")
    mixed = net.op("MatMul", v, net.op("Softmax", score, name="rows", axis=1), name="mix")
    joined = net.op("Reshape", mixed, net.ints(-1, 4, 5), name="joined")
    return net.model(net.op("Sigmoid", net.bn(joined, 4), name="end"))


def test_it_goes_where_the_sizes_are_fixed(tmp_path: Path) -> None:
    """Which head a place on an axis is of depends on the number of samples, where that is free."""
    plan = make_plan(bnfold.load(save(_heads("N"), tmp_path / "free.onnx")).graph)
    (reason,) = [d.reason for d in plan.batch_norms if d.reason]
    assert reason.reason.code == "mixed_channels"
    assert reason.message.endswith("it goes in a model whose sizes are all fixed")
    result = bnfold.fold(save(_heads(2), tmp_path / "fixed.onnx"), tmp_path / "folded.onnx")
    assert result.ok and result.plan.kept == 0
