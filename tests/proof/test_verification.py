"""A proof that can fail: wrong folds are caught, right ones are not accused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

import bnfold
from bnfold.algebra.rounding import cast
from bnfold.proof.comparison import compare
from situations import BY_NAME
from situations.build import Net
from situations.fold import save

WRITTEN = "bnfold.planning.decision.cast"  # what every folded weight and bias goes through


def _nudge(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    """Every tensor that a fold computes comes out too large by the factor ``1 + by``."""
    monkeypatch.setattr(WRITTEN, lambda values, dtype: cast(values * (1 + by), dtype))


@pytest.mark.parametrize("by", [1.0, 1e-2, 1e-4, 1e-5])
@pytest.mark.parametrize("name", ["conv_2d", "forward_conv_unpadded", "gemm_behind_matrix"])
def test_a_nudged_weight_fails_and_leaves_no_file(
    name: str, by: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(BY_NAME[name].build(), tmp_path / "model.onnx")
    _nudge(monkeypatch, by)
    result = bnfold.fold(source, tmp_path / "folded.onnx")
    assert not result.ok
    assert result.output is None
    assert result.verification is not None
    assert not result.verification.passed
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_an_existing_target_survives_a_failed_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(BY_NAME["conv_2d"].build(), tmp_path / "model.onnx")
    before = source.read_bytes()
    (tmp_path / "folded.onnx").write_bytes(b"precious")
    _nudge(monkeypatch, 0.1)
    assert not bnfold.fold(source, tmp_path / "folded.onnx").ok
    assert not bnfold.fold(source, source, force=True).ok
    assert (tmp_path / "folded.onnx").read_bytes() == b"precious"
    assert source.read_bytes() == before


def test_one_wrong_element_of_many_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
        result = cast(values, dtype)
        result.reshape(-1)[-1] *= np.float32(1.001)
        return result

    source = save(BY_NAME["conv_2d"].build(), tmp_path / "model.onnx")
    monkeypatch.setattr(WRITTEN, spoiled)
    assert not bnfold.fold(source, tmp_path / "folded.onnx").ok


def _amplifier(gain: float, integers: bool = False, layers: int = 2) -> onnx.ModelProto:
    """Rounding in the last place of the convolutions moves the whole output."""
    net = Net()
    y = net.input("N", 3, 8, 8)
    for i in range(layers):
        y = net.relu(net.bn(net.conv(y, 3, 3, name=f"conv{i}"), 3, f"bn{i}"), f"relu{i}")
    y = net.op("Sin", net.op("Mul", y, net.const(np.array(gain)), name="gain"), name="sin")
    if integers:
        y = net.op("Cast", net.op("ReduceSum", y, name="sum"), name="cast", to=TensorProto.INT64)
    return net.model(y)


def test_an_ill_conditioned_network_is_judged_piece_by_piece(tmp_path: Path) -> None:
    source = save(_amplifier(1e6), tmp_path / "model.onnx")
    result = bnfold.fold(source, tmp_path / "folded.onnx")
    found = result.verification
    assert result.ok
    assert found is not None
    assert not found.outputs[0].informs
    assert found.outputs[0].rounding_floor > found.outputs[0].cap
    assert found.pieces
    assert all(piece.passed and piece.informs for piece in found.pieces)


def test_an_ill_conditioned_network_is_no_blank_cheque(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(_amplifier(1e6), tmp_path / "model.onnx")
    _nudge(monkeypatch, 1e-4)
    result = bnfold.fold(source, tmp_path / "folded.onnx")
    assert not result.ok
    assert result.verification is not None
    assert result.verification.first_wrong == "bn0_out"


def test_the_first_wrong_piece_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the second layer is spoiled: its bias comes out too large."""
    source = save(_amplifier(1.0, layers=3), tmp_path / "model.onnx")
    bias = next(
        numpy_helper.to_array(t)
        for t in onnx.load(_clean_fold(source, tmp_path)).graph.initializer
        if t.name == "conv1.bias"
    )

    def spoiled(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
        result = cast(values, dtype)
        return result + np.float32(0.1) if np.array_equal(result, bias) else result

    monkeypatch.setattr(WRITTEN, spoiled)
    result = bnfold.fold(source, tmp_path / "folded.onnx")
    assert not result.ok
    assert result.verification is not None
    assert result.verification.first_wrong == "bn1_out"


def _clean_fold(source: Path, place: Path) -> Path:
    target = place / "clean.onnx"
    assert bnfold.fold(source, target).ok
    return target


def test_integer_outputs_are_reported_and_do_not_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum of sines of huge numbers, cut to integers: it differs by rounding alone."""
    source = save(_amplifier(1e7, integers=True), tmp_path / "model.onnx")
    result = bnfold.fold(source, tmp_path / "folded.onnx")
    assert result.ok
    assert result.verification is not None
    assert not result.verification.outputs[0].informs
    assert result.verification.pieces
    _nudge(monkeypatch, 1e-3)
    assert not bnfold.fold(source, tmp_path / "wrong.onnx").ok


def test_verify_tells_equal_from_unequal(tmp_path: Path) -> None:
    source = save(BY_NAME["conv_2d"].build(), tmp_path / "model.onnx")
    target = _clean_fold(source, tmp_path)
    assert bnfold.verify(source, target).ok
    assert bnfold.verify(target, source).ok
    model = onnx.load(target)
    weight = model.graph.initializer[0]
    array = numpy_helper.to_array(weight) * np.float32(1.0001)
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    other = save(model, tmp_path / "other.onnx")
    result = bnfold.verify(source, other)
    assert not result.ok
    assert result.to_json()["passed"] is False


@pytest.mark.parametrize("name", ["half_precision", "half_convolution_with_float_norm"])
def test_half_precision_is_judged_by_its_own_rounding(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(BY_NAME[name].build(), tmp_path / "model.onnx")
    assert bnfold.fold(source, tmp_path / "folded.onnx").ok
    _nudge(monkeypatch, 0.2)
    assert not bnfold.fold(source, tmp_path / "wrong.onnx").ok


# The comparison itself

_ONES = np.ones((2, 3), np.float32)
_WRONG: dict[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    "a value is off": lambda a: a + np.float32(1e-3),
    "a value is not finite": lambda a: np.where(np.arange(3) == 1, np.nan, a).astype(np.float32),
    "a value is infinite": lambda a: a / np.float32(0),
    "the shape differs": lambda a: a[:, :2],
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("what", _WRONG)
def test_comparison_fails_where(what: str) -> None:
    found = compare("y", [_ONES], [_WRONG[what](_ONES)], [[_ONES]])
    assert not found.passed


def test_comparison_allows_what_rounding_does() -> None:
    moved = _ONES * np.float32(1 + 2e-6)
    assert compare("y", [_ONES], [moved], [[_ONES * np.float32(1 + 1e-6)]]).passed
    assert not compare("y", [_ONES], [moved], [[_ONES]]).passed


def test_comparison_has_a_cap_however_much_rounding_does() -> None:
    """Two per cent of movement under rounding do not excuse one per cent of error."""
    spread = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = compare("y", [spread], [spread * np.float32(1.01)], [[spread * np.float32(1.02)]])
    assert not found.informs and found.rounding_floor > found.cap


def test_equal_infinities_and_nans_are_equal() -> None:
    odd = np.array([[np.nan, np.inf, 1.0]], np.float32)
    assert compare("y", [odd], [odd.copy()], [[odd]]).passed


def test_a_constant_zero_output_is_compared() -> None:
    zero = np.zeros((2, 3), np.float32)
    assert compare("y", [zero], [zero], [[zero]]).passed
    assert not compare("y", [zero], [zero + np.float32(1e-20)], [[zero]]).passed


def _ranked() -> onnx.ModelProto:
    """A BatchNorm that has to stay, and outputs that are whole numbers only."""
    net = Net()
    y = net.relu(net.input("N", 4, 8, 8), "relu")
    return net.model(net.op("ArgMax", net.bn(y, 4, "bn"), name="rank", axis=1))


def test_whole_numbers_alone_pass_where_nothing_was_changed(tmp_path: Path) -> None:
    source = save(_ranked(), tmp_path / "model.onnx")
    result = bnfold.fold(source, tmp_path / "folded.onnx")
    assert result.ok and result.plan.kept == 1
    assert result.verification is not None
    assert not result.verification.outputs[0].informs
    # Without a plan there are only the outputs, and these could not tell.
    compared = bnfold.verify(source, tmp_path / "folded.onnx").verification
    assert not compared.passed and not compared.decided and not compared.differs


def test_two_models_whose_whole_numbers_differ_are_not_the_same(tmp_path: Path) -> None:
    source = save(_ranked(), tmp_path / "model.onnx")
    other = onnx.load(source)
    for tensor in other.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    changed = save(other, tmp_path / "other.onnx")
    assert not bnfold.verify(source, changed).ok


def test_complex_outputs_are_judged_by_both_parts() -> None:
    reference = np.array([[1 + 2j, 3 - 1j]], np.complex64)
    moved = [reference * np.complex64(1 + 1e-7)]
    good, bad = reference * np.complex64(1 + 1e-7j), reference + np.complex64(0.1j)
    assert compare("y", [reference], [good], [moved]).passed
    assert not compare("y", [reference], [bad], [moved]).passed
