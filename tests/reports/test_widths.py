"""The other text reports in a narrow terminal, in a wide one and in a pipe."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bnfold.data import SampleOptions
from bnfold.formats.onnx import OnnxModel
from bnfold.jobs import fold, verify
from bnfold.jobs.recalibrate import recalibrate
from bnfold.reports import text
from bnfold.reports.terminal import ReportConsole

_LONG = "/".join(["a_rather_long_name_of_an_output"] * 4)


def _folded(place: Path, models: Path) -> Any:
    found = fold(OnnxModel(models / "residual.onnx"), place / "out.onnx")
    assert found.verification is not None
    outputs = tuple(replace(o, name=_LONG) for o in found.verification.outputs)
    return replace(found, verification=replace(found.verification, outputs=outputs))


def _verified(place: Path, models: Path) -> Any:
    return verify(OnnxModel(models / "residual.onnx"), OnnxModel(models / "residual.onnx"))


def _recalibrated(place: Path, models: Path) -> Any:
    found = recalibrate(
        OnnxModel(models / "residual.onnx"),
        place / "out.onnx",
        models / "digits_calibration.npz",
        sampling=SampleOptions(samples=16),
    )
    assert found is not None
    changes = tuple(replace(c, name=f"{_LONG}/{c.name}") for c in found.batch_norms)
    return replace(found, batch_norms=changes)


@pytest.fixture(scope="module", params=[_folded, _verified, _recalibrated])
def result(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sample_models: Path
) -> Any:
    make: Callable[[Path, Path], Any] = request.param
    return make(tmp_path_factory.mktemp("widths"), sample_models)


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("width", [80, 140, None])
def test_it_fits(result: Any, width: int | None, verbose: bool) -> None:
    stream = io.StringIO()
    text._render(result, ReportConsole(stream, width), verbose)
    lines = stream.getvalue().splitlines()
    assert all(line == line.rstrip() for line in lines)
    whole = [line for line in lines if line.count(" ") == 0]  # one word that is not broken
    assert width is None or all(len(line) <= width for line in lines if line not in whole)
    if "rather_long" in repr(result):
        cut = [line for line in lines if line.startswith("a_rat") and "…" in line.split()[0]]
        assert bool(cut) == (width is not None)
