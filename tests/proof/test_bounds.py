"""A user's own bounds: each metric against numbers worked out by hand, and a fault for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import bnfold
from bnfold.proof.bounds import Bounds
from bnfold.proof.divergence import parting
from bnfold.reports.proof import proof_in_words
from situations import BY_NAME
from situations.command import Command, is_one_sentence
from situations.fold import save

R = np.array([[3.0, 4.0], [0.0, 1.0]], np.float32)
C = np.array([[3.0, 4.5], [0.0, -1.0]], np.float32)


@pytest.mark.parametrize(
    ("metric", "value", "passes", "fails"),
    [
        ("max", 2.0, 2.0, 1.9),
        # 10 log10((9 + 16 + 1) / (0.25 + 4))
        ("sqnr", 7.865844, 7.8, 7.9),
        # (9 + 18 - 1) / sqrt(26 * (9 + 20.25 + 1))
        ("cosine", 0.927095, 0.92, 0.93),
        ("class", 0.5, 0.5, 0.6),
    ],
)
def test_metrics(metric: str, value: float, passes: float, fails: float) -> None:
    (found,) = Bounds(metric=metric, thresholds={"": passes}).judge("y", [R], [C])
    assert found.value == pytest.approx(value, rel=1e-5) and found.passed
    (found,) = Bounds(metric=metric, thresholds={"": fails}).judge("y", [R], [C])
    assert not found.passed


def test_tolerances_are_those_of_numpy() -> None:
    for rtol, atol in ((0.0, 2.0), (0.125, 2.0), (0.1, 0.0), (0.0, 1.9), (None, 2.0), (0.5, None)):
        (found,) = Bounds(rtol=rtol, atol=atol).judge("y", [R], [C])
        assert found.passed is np.allclose(C, R, rtol=rtol or 0.0, atol=atol or 0.0)


def test_a_threshold_of_one_output_says_nothing_of_another() -> None:
    bounds = Bounds(metric="max", thresholds={"y": 5.0})
    assert bounds.judge("y", [R], [C])[0].passed
    assert bounds.judge("z", [R], [C]) == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("metric", ["max", "sqnr", "cosine"])
def test_what_is_not_finite_keeps_to_no_bound(metric: str, bad: float) -> None:
    spoilt = C.copy()
    spoilt[0, 0] = bad
    loose = {"max": 1e9, "sqnr": -100.0, "cosine": -0.5}[metric]
    (found,) = Bounds(metric=metric, thresholds={"": loose}).judge("y", [R], [spoilt])
    assert not found.passed
    (found,) = Bounds(atol=1e9).judge("y", [R], [spoilt])
    assert not found.passed


def test_the_command_line(command: Command, tmp_path: Path) -> None:
    model = onnx.load(tmp_path / "model.onnx")
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, tmp_path / "rounded.onnx")
    both = ("verify", "model.onnx", "rounded.onnx")
    assert command(*both).code == 1  # far above the rounding of float32
    assert command(*both, "--metric", "sqnr", "--threshold", "40").code == 0
    assert command(*both, "--metric", "sqnr", "--threshold", "400").code == 1
    assert command(*both, "--rtol", "0.01", "--atol", "0.01").code == 0
    outcome = command(*both, "--metric", "max", "--threshold", "1e-9", "-f", "json")
    (output,) = outcome.json["outputs"]
    assert outcome.code == 1 and output["bounds"][0]["metric"] == "max"
    assert not output["bounds"][0]["passed"]
    for arguments in (["--metric", "max"], ["--threshold", "1"], ["--rtol", "-1"],
                      ["--metric", "max", "--threshold", "y=much"],
                      ["--metric", "max", "--threshold", "absent=1"]):  # fmt: skip
        outcome = command(*both, *arguments)
        assert outcome.code == 2
        is_one_sentence(outcome.err)
    assert "no output is called so" in outcome.err


def test_where_two_models_part_is_named(tmp_path: Path) -> None:
    """The values that both name, in order: the first that differs, and its neighbours."""
    source = save(BY_NAME["conv_2d"].build(), tmp_path / "model.onnx")
    model = onnx.load(source)
    bias = next(t for t in model.graph.initializer if t.name == "bn.shift")
    array = numpy_helper.to_array(bias).copy()
    array[1] += 0.5
    bias.CopyFrom(numpy_helper.from_array(array, bias.name))
    other = save(model, tmp_path / "other.onnx")
    found = bnfold.verify(source, other).verification
    first = next(value for value in found.parting if not value.passed)
    assert (first.name, first.channel) == ("bn_out", 1)
    assert first.error == pytest.approx(0.5, rel=1e-3)
    assert not bnfold.verify(source, source).verification.parting


def test_how_an_error_goes_on_through_the_network(
    sample_models: Path,
) -> None:
    """All values that both name; the text shows those around the first that differs, -v all."""
    stale = sample_models / "residual_stale_statistics.onnx"
    found = bnfold.verify(sample_models / "residual.onnx", stale)
    values = found.verification.parting
    assert len(values) > 20 and values[0].passed and values[-1].name == "scores"
    few = [line for line in proof_in_words(found.verification) if "rounding floors" in line]
    many = list(proof_in_words(found.verification, verbose=True))
    assert len(few) == 5 and few[1].endswith("differs") and few[0].endswith("same")
    assert len(many) == len(values) + 1
    other_shape = replace(
        found.verification, parting=(replace(values[0], error=inf, passed=False),)
    )
    assert "another shape" in list(proof_in_words(other_shape))[1]


def test_values_behind_the_parting_are_thinned_out() -> None:
    """However deep a network: 3,000 values, the fifth of which differs."""
    asked: list[Sequence[str]] = []

    class Model:
        def __init__(self, at: int) -> None:
            self.at = at

        def inner_names(self) -> Sequence[str]:
            return [str(i) for i in range(3000)]

        def values(
            self, feeds: Any, names: Sequence[str], draw: int | None = None
        ) -> dict[str, NDArray[Any]]:
            asked.append(names)
            return {n: np.full((2, 3), 1.0 + (int(n) >= self.at), np.float32) for n in names}

    found = parting(Model(3000), Model(5), {})
    assert [v.passed for v in found[:6]] == [True] * 5 + [False]
    assert len(found) <= 64 + 128 and int(found[-1].name) > 2950
    assert max(map(len, asked)) <= 64 and len(asked) == 3 * 4
