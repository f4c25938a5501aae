"""What a reason says is true: who follows its advice is rid of it, and "no exact fold" is a theorem."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import bnfold
from bnfold.planning import Action, Reason, make_plan
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
        ("negative_scale_before_a_rectifier", True),
        ("negative_scale_before_a_magnitude", False),  # |-x| = |x|, which the planner does not use
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


def _tensors(model: onnx.ModelProto, end: str, change: Callable[[Any], Any]) -> None:
    """Gives the stored tensors whose names end so other elements."""
    for tensor in model.graph.initializer:
        if tensor.name.endswith(end):
            array = change(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), tensor.name))


def _for_inference(model: onnx.ModelProto) -> None:
    """As an export in evaluation mode has it."""
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            kept = [a for a in node.attribute if a.name not in ("training_mode", "is_test")]
            del node.attribute[:], node.output[1:]
            node.attribute.extend(kept)
            if model.opset_import[0].version == 6:
                node.attribute.append(helper.make_attribute("is_test", 1))
    made = {name for node in model.graph.node for name in node.output}
    ends = [o for o in model.graph.output if o.name in made]
    del model.graph.output[:]
    model.graph.output.extend(ends)


def _healthy(model: onnx.ModelProto) -> None:
    for end in (".mean", ".variance", ".scale", ".shift"):
        _tensors(
            model, end, lambda a: np.abs(np.nan_to_num(a, posinf=1.0, neginf=1.0)) + a.dtype.type(1)
        )


def _with_epsilon(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "epsilon":
                attribute.f = 1e-5


def _at_opset_13(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 13


def _symmetric(model: onnx.ModelProto) -> None:
    """The least integer is not in use."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8:
            array = np.maximum(numpy_helper.to_array(tensor), -127)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    known = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in known:
            scale = numpy_helper.to_array(known[node.input[1]])
            _tensors(model, node.input[0], partial(np.maximum, -127 * scale))


def _before_quantising(model: onnx.ModelProto) -> None:
    """The float network: what is rounded to a grid is handed on as it is."""
    known = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in known:
            array = numpy_helper.to_array(known[node.input[0]]).astype(np.float32) * np.float32(
                0.02
            )
            tensor = numpy_helper.from_array(array, f"{node.input[0]}_float")
            model.graph.initializer.append(tensor)
            node.input[0] = tensor.name
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.op_type, node.domain = "Identity", ""
            del node.input[1:], node.attribute[:]


def _in_float32(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            array = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16:
            info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _with_fixed_sizes(model: onnx.ModelProto) -> None:
    for info in model.graph.input:
        for dim in info.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_value = 8


_QUANTISED = ("QUANTIZED_WEIGHT", "QUANTIZED_INPUTS", "QUANTIZED_RANGE", "QUANTIZED_PER_TENSOR")
_REMEDIES: list[tuple[Reason, Callable[[onnx.ModelProto], None]]] = [
    (Reason.TRAINING_MODE, _for_inference),
    (Reason.STATISTICS_IN_USE, _for_inference),
    (Reason.NON_FINITE_STATISTICS, _healthy),
    (Reason.NEGATIVE_VARIANCE, _healthy),
    (Reason.ZERO_VARIANCE, _with_epsilon),
    (Reason.QUANTIZED_PER_TENSOR, _at_opset_13),
    (Reason.QUANTIZED_RANGE, _symmetric),
    (Reason.UNDERFLOW, _in_float32),
    (Reason.UNKNOWN_SHAPE, _with_fixed_sizes),
    (Reason.QUANTIZED_VALUE, _before_quantising),
    *((Reason[name], _before_quantising) for name in _QUANTISED),
]
# What the tests above show, and what no file of a network can: tests of those who say it do.
_ELSEWHERE = {
    Reason.OVERRIDABLE_INITIALIZER,  # above
    Reason.NO_GRAPH,  # tests/formats/torch/test_torch_open.py
    Reason.UNCHANGED_CLASS,  # tests/formats/torch/test_torch_memory.py
}


def _left(model: onnx.ModelProto, path: Path, reason: Reason) -> int:
    plan = make_plan(bnfold.load(save(model, path)).graph)
    return sum(d.reason is not None and d.reason.reason is reason for d in plan.batch_norms)


@pytest.mark.parametrize(
    ("reason", "remedy"), _REMEDIES, ids=lambda part: getattr(part, "__name__", None) or part.name
)
def test_who_follows_the_advice_is_rid_of_the_reason(
    reason: Reason, remedy: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    for situation in SITUATIONS:
        if reason.code not in [e.reason for e in situation.norms.values()] or situation.freeze:
            continue
        if situation.name == "sequence_with_sizes_from_data":
            continue  # for which there is no advice
        model = situation.build()
        assert _left(model, tmp_path / "before.onnx", reason)
        remedy(model)
        assert not _left(model, tmp_path / "after.onnx", reason), situation.name


def test_every_advice_is_followed_somewhere() -> None:
    advising = {reason for reason in Reason if ";" in reason.value}
    assert advising == {reason for reason, _ in _REMEDIES} | _ELSEWHERE


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
