"""The committed sample models: the decisions of their README, and accuracy that a fold leaves alone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import bnfold
from bnfold.planning import Plan
from situations.fold import ROOT
from situations.run import run


class Row(NamedTuple):
    """One row of the README's table."""

    file: str
    norms: int
    backward: int
    forward: int
    both: int
    keep: int
    accuracy: float


def _rows() -> dict[str, Row]:
    text = (ROOT / "sample_models" / "README.md").read_text(encoding="utf-8")
    row = re.compile(
        r"^\| `(\S+\.onnx)` \|.*\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) % \|$",
        re.M,
    )
    found = [
        Row(m[1], int(m[2]), int(m[3]), int(m[4]), int(m[5]), int(m[6]), float(m[7]) / 100)
        for m in row.finditer(text)
    ]
    return {r.file: r for r in found}


ROWS = _rows()
by_file = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


def test_the_table_lists_every_file(sample_models: Path) -> None:
    assert ROWS.keys() == {p.name for p in sample_models.glob("*.onnx")}


def _counts(plan: Plan) -> tuple[int, ...]:
    found = Counter(d.direction.value if d.direction else "keep" for d in plan.batch_norms)
    return len(plan.batch_norms), found["backward"], found["forward"], found["both"], found["keep"]


@by_file
def test_decisions_are_those_of_the_table(row: Row, sample_models: Path) -> None:
    plan = bnfold.inspect(sample_models / row.file).plan
    assert _counts(plan) == (row.norms, row.backward, row.forward, row.both, row.keep)


def _scores(model: Path, data: dict[str, NDArray[Any]]) -> NDArray[Any]:
    return run(model, {"image": data["image"]})[0]


def _accuracy(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    return float(np.mean(scores.argmax(axis=1) == labels))


@pytest.fixture(scope="module")
def digits(sample_models: Path) -> dict[str, NDArray[Any]]:
    with np.load(sample_models / "digits_test.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@by_file
def test_accuracy_is_the_same_before_and_after(
    row: Row, sample_models: Path, digits: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    source, target = sample_models / row.file, tmp_path / "folded.onnx"
    result = bnfold.fold(source, target, data=sample_models / "digits_test.npz")
    assert result.ok
    assert result.batch_norms_left == row.keep
    before, after = (_scores(m, digits) for m in (source, target))
    assert _accuracy(after, digits["label"]) == _accuracy(before, digits["label"])
    np.testing.assert_allclose(after, before, atol=1e-4)
    # Other processors may round differently and move an image or two.
    assert _accuracy(before, digits["label"]) == pytest.approx(row.accuracy, abs=0.006)


def test_a_batch_of_one_agrees_too(
    sample_models: Path, digits: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    source, target = sample_models / "residual.onnx", tmp_path / "folded.onnx"
    assert bnfold.fold(source, target).ok
    one = {"image": digits["image"][:1]}
    np.testing.assert_allclose(run(target, one)[0], run(source, one)[0], atol=1e-5)
