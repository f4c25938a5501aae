"""Shapes that inference does not reach: declared ones, and those that follow from arithmetic."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import bnfold
from bnfold.planning import Plan
from situations.build import Net
from situations.fold import save


def _behind_a_foreign_operator(*declared: int | str) -> onnx.ModelProto:
    """A norm behind a transposed matrix product, of a value of which ONNX knows nothing."""
    net = Net()
    y = net.op("Gelu", net.input("N", "L", 4), name="foreign", domain="com.microsoft")
    y = net.op("MatMul", y, net.weight(4, 6), name="product")
    y = net.op("Transpose", y, name="turned", perm=[0, 2, 1])
    model = net.model(net.relu(net.bn(y, 6)), unknown=(TensorProto.FLOAT, 3))
    if declared:
        info = helper.make_tensor_value_info("foreign_out", TensorProto.FLOAT, declared)
        model.graph.value_info.append(info)
    return model


def _plan(model: onnx.ModelProto, place: Path) -> Plan:
    return bnfold.inspect(bnfold.load(save(model, place / "model.onnx"))).plan


def test_unknown_shapes_keep_a_norm(tmp_path: Path) -> None:
    (decision,) = _plan(_behind_a_foreign_operator(), tmp_path).batch_norms
    assert decision.reason is not None and decision.reason.reason.code == "unknown_shape"


@pytest.mark.parametrize("declared", [("N", "L", 4), (2, 5, 4)])
def test_declared_shapes_are_looked_at(declared: tuple[int | str, ...], tmp_path: Path) -> None:
    plan = _plan(_behind_a_foreign_operator(*declared), tmp_path)
    assert [d.into for d in plan.batch_norms] == [("product",)]


def test_a_declared_shape_without_sizes_is_none(tmp_path: Path) -> None:
    """A symbol that is no input's says nothing."""
    (decision,) = _plan(_behind_a_foreign_operator("N", "unk__1", 4), tmp_path).batch_norms
    assert decision.reason is not None


def test_what_inference_knows_is_not_overruled(tmp_path: Path) -> None:
    net = Net()
    y = net.op("MatMul", net.input("N", 5, 4), net.weight(4, 6), name="product")
    y = net.op("Transpose", y, name="turned", perm=[0, 2, 1])
    model = net.model(net.relu(net.bn(y, 6)))
    wrong = helper.make_tensor_value_info("product_out", TensorProto.FLOAT, [1, 30, 4])
    model.graph.value_info.append(wrong)
    assert [d.into for d in _plan(model, tmp_path).batch_norms] == [("product",)]


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 17])
def test_sizes_that_are_computed_from_shapes(opset: int, tmp_path: Path) -> None:
    """(N, 6, H, W) reshaped to (N, 6, H * W), the sizes computed as each operator set writes it."""
    net = Net(opset)
    y = net.conv(net.input("N", 4, "H", "W"), 4, 6, name="conv", pads=[1, 1, 1, 1])
    shape = net.op("Shape", y, name="shape")
    parts = [net.op("Gather", shape, net.ints(i), name=f"size{i}") for i in range(4)]
    area = net.op("Mul", parts[2], parts[3], name="area")
    target = net.op("Concat", *parts[:2], area, name="target", axis=0)
    y = net.op("Reshape", y, target, name="reshape")
    plan = _plan(net.model(net.relu(net.bn(y, 6)), unknown=(TensorProto.FLOAT, 3)), tmp_path)
    assert [d.into for d in plan.batch_norms] == [("conv",)]
