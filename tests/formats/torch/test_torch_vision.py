"""torchvision's own operators: convolutions that read between pixels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

import test_torch_decisions as decisions
from deformed import DeformConv2d
from situations.run import RECENT, run
from torch_cases import BACK, Case, conv, net

SHAPES = ((2, 8, 9, 9), (2, 8, 9, 9))
FOLDS = [
    Case(
        f"deformed_{group}_{bias:d}",
        net(
            lambda m, x, y: m.b(m.d(x, m.o(y).tanh(), m.m(y).sigmoid())).relu(),
            o=conv(8, 18),
            m=conv(8, 9),
            d=DeformConv2d(8, group, bias),
            b=nn.BatchNorm2d(8),
        ),
        {"b": BACK},
        SHAPES,
    )
    for group, bias in ((1, True), (2, False))
]
STAYS = [
    Case(
        "shift_in_front",
        net(
            lambda m, x, y: m.d(m.b(x), m.o(y)),
            o=conv(8, 18),
            d=DeformConv2d(8),
            b=nn.BatchNorm2d(8),
        ),
        {"b": "padded_reader"},
        SHAPES,
    ),
    Case(
        "offsets",
        net(lambda m, x, y: m.d(x, m.b(y)), d=DeformConv2d(8), b=nn.BatchNorm2d(18)),
        {"b": "opaque_reader"},
        ((2, 8, 9, 9), (2, 18, 9, 9)),
    ),
]


@pytest.mark.parametrize("case", [*FOLDS, *STAYS], ids=lambda case: case.name)
def test_decision_and_numbers(case: Case) -> None:
    decisions.test_decision_and_numbers(case)


@pytest.mark.parametrize("case", FOLDS, ids=lambda case: case.name)
def test_fold_verifies_in_float32(case: Case) -> None:
    decisions.test_fold_verifies_in_float32(case)


@pytest.mark.skipif(not RECENT, reason="this onnxruntime has no DeformConv")
def test_the_operator_is_what_onnxruntime_computes() -> None:
    """What these tests call is no operator of our own invention."""
    torch.manual_seed(0)
    shapes = {
        "x": (2, 8, 9, 9),
        "w": (8, 4, 3, 3),
        "o": (2, 18, 9, 9),
        "b": (8,),
        "m": (2, 9, 9, 9),
    }
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    settings = (1, 1, 1, 1, 1, 1, 2, 1, True)
    ours = torch.ops.torchvision.deform_conv2d(*(tensors[n] for n in "xwomb"), *settings)
    node = helper.make_node("DeformConv", list(shapes), ["y"], pads=[1] * 4, group=2)
    inputs = [helper.make_tensor_value_info(n, 1, s) for n, s in shapes.items()]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, None)])
    imports = [helper.make_opsetid("", 19)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=9)
    (theirs,) = run(model, {n: t.numpy() for n, t in tensors.items()})
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-4)
