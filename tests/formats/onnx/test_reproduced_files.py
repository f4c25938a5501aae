"""Small files that were once folded wrongly, ended in an exception, or kept what could go."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

import bnfold
from situations.build import operators
from situations.command import Command, is_one_sentence
from situations.run import error, feeds_for, run

FILES = Path(__file__).parent / "files"
# By file: the sizes it takes, what becomes of its norms, and which operators are left.
OUTCOMES: dict[str, tuple[tuple[int, int], str, str]] = {
    # was folded wrongly
    "add_grows_rank_before_bn": ((4, 5), "broadcast", "Conv Add BatchNormalization"),
    "ir3_bias_grows_unloadable": ((2, 3), "fold", "Gemm Relu"),
    "resize_crop_extrapolates": ((2, 6), "", "Conv Resize Mul Add"),
    "softmax_weight_opset11": ((3, 8), "fold", "Conv Relu"),
    "squeezed_addend_opset11": ((2, 5), "fold", "Conv Relu"),
    "squeezed_weight_opset11_unloadable": ((2, 7), "fold", "Conv Relu"),
    # raised
    "dynamic_axis_plus_constant": ((3, 8), "fold", "Conv Add Relu"),
    "positional_embedding_dynamic_sequence": ((3, 16), "fold", "MatMul Add Transpose Relu"),
    # was kept
    "mul_of_unsqueezed_constant": ((3, 8), "shared_value", "Conv Relu BatchNormalization Relu Add"),
    "reshape_from_shape_opset11": (
        (3, 8),
        "fold",
        "Conv Shape Gather Unsqueeze Concat Reshape Relu",
    ),
    "reshape_from_shape_opset12": (
        (3, 8),
        "fold",
        "Conv Shape Gather Unsqueeze Concat Reshape Relu",
    ),
    "unsqueezed_weight_opset12": ((3, 8), "fold", "Conv Relu"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_decision_and_numbers(name: str, tmp_path: Path) -> None:
    sizes, expected, left = OUTCOMES[name]
    source, target = FILES / f"{name}.onnx", tmp_path / "folded.onnx"
    result = bnfold.fold(bnfold.load(source), target)
    assert result.ok
    found = [d.reason.reason.code if d.reason else d.action.value for d in result.plan.batch_norms]
    assert found == ([expected] if expected else [])
    assert operators(onnx.load(target).graph) == Counter(left.split())
    for feeds in feeds_for(onnx.load(source), (sizes,)):
        assert error(run(source, feeds), run(target, feeds)) < 2e-5


def test_statistics_that_do_not_fit_get_one_sentence(command: Command, tmp_path: Path) -> None:
    outcome = command(
        "fold", FILES / "statistics_longer_than_channels.onnx", "-o", tmp_path / "out.onnx"
    )
    assert outcome.code == 2
    is_one_sentence(outcome.err)
    assert not (tmp_path / "out.onnx").exists()
