"""Element types without shapes, and how often the network is walked through for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from bnfold.formats.onnx import OnnxModel
from bnfold.formats.onnx.graph import element_types
from bnfold.formats.onnx.graph.scopes import Scope
from situations.build import Net
from situations.fold import save


def test_a_chain_is_walked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    value = net.input("N", 3)
    for i in range(40):
        value = net.op("Relu", value, name=f"r{i}")
    half = net.op("Cast", value, name="half", to=TensorProto.FLOAT16)
    last = net.op("Add", half, net.const(np.ones(3, np.float16)), name="last")
    model = OnnxModel(save(net.model(last), tmp_path / "m.onnx"))
    scope = model.scopes[0]
    steps: list[str] = []
    step = element_types._step

    def counted(scope: Scope, name: str, opset: int) -> int | str | None:
        steps.append(name)
        return step(scope, name, opset)

    monkeypatch.setattr(element_types, "_step", counted)
    scope.types.clear()
    found = [element_types.element_type(scope, f"r{i}_out", net.opset) for i in range(40)]
    assert set(found) == {TensorProto.FLOAT} and len(steps) == len(set(steps)) <= 41
    assert element_types.element_type(scope, last, net.opset) == TensorProto.FLOAT16
    assert element_types.element_type(scope, "absent", net.opset) is None
