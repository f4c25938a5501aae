"""``bnfold recalibrate`` at the command line: report on stdout, everything else on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bnfold.cli.recalibrate import recalibrate
from bnfold.errors import BnfoldError, DataError, UsageError
from situations.command import Called, called

from .networks import CALIBRATION, SAMPLES

STALE = str(SAMPLES / "residual_stale_statistics.onnx")


def run(*arguments: object, model: str = STALE) -> Called:
    return called(recalibrate, model, "--data", CALIBRATION, *arguments)


def refusal(*arguments: object) -> BnfoldError:
    """What `main` prints as one sentence before it exits with 2."""
    error = run(*arguments).exception
    assert isinstance(error, BnfoldError) and "\n" not in str(error)
    return error


def test_json_is_one_document(tmp_path: Path) -> None:
    result = run("-o", tmp_path / "o.onnx", "--format", "json", "--samples", 64, "--shuffle")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["command"], found["samples"], found["method"]) == (
        "recalibrate",
        64,
        "population",
    )
    assert found["self_check"]["agrees"] and found["output"]["path"] == str(tmp_path / "o.onnx")
    assert len(found["batch_norms"]) == 8 and found["cost"]["levels"] == 7


def test_text(tmp_path: Path) -> None:
    result = run("-o", tmp_path / "o.onnx", "-v")
    assert result.exit_code == 0
    for words in (
        "7 levels",
        "mean shift",
        "warning:",
        "stored and observed statistics agree",
        "wrote",
    ):
        assert words in result.stdout


def test_other_methods_and_modifiers(tmp_path: Path) -> None:
    for options in (
        ["--method", "batch"],
        ["--prior", "16", "--samples", "16"],
        ["--skip", "*block*", "--variance", "unbiased", "--cache-memory", "1M", "--threads", "1"],
    ):
        result = run("-o", tmp_path / "o.onnx", *options)
        assert result.exit_code == 0, result.stdout


def test_evaluate(tmp_path: Path) -> None:
    code = (
        "import os\ndef size(path):\n    return 1.0 if path.name.startswith('residual_') else 0.5\n"
    )
    (tmp_path / "score.py").write_text(code)
    score = f"{tmp_path / 'score.py'}:size"
    result = run("-o", tmp_path / "o.onnx", "--evaluate", score)
    assert result.exit_code == 1 and not (tmp_path / "o.onnx").exists()
    assert "1 → 0.5" in result.stdout and "nothing written" in result.stdout
    result = run("-o", tmp_path / "o.onnx", "--evaluate", score, "--max-drop", 0.5)
    assert result.exit_code == 0 and (tmp_path / "o.onnx").exists()


def test_wrong_usage(tmp_path: Path) -> None:
    target = tmp_path / "o.onnx"
    assert isinstance(refusal("-o", target, "--cache-memory", "lots"), UsageError)
    assert isinstance(refusal("-o", target, "--mean", "a,b"), UsageError)
    assert isinstance(refusal("-o", target, "--image-size", "0"), UsageError)
    assert isinstance(refusal("-o", target, "--only", "nothing"), UsageError)
    assert run("-o", target, "--method", "median").exit_code == 2
    assert run("-o", target, "--samples", 0).exit_code == 2
    assert run().exit_code == 2, "-o is required"
    assert not list(tmp_path.iterdir())


def test_data_that_does_not_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 3, 8, 8), np.float32))
    arguments = [STALE, "--data", str(tmp_path / "x.npy"), "-o", str(tmp_path / "o.onnx")]
    error = called(recalibrate, *arguments).exception
    assert isinstance(error, DataError)
    assert "[samples, 3, 8, 8], but the model wants image float32 [?, 1, 8, 8]" in str(error)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("4K", 4096), ("1.5M", 3 << 19), ("2GiB", 2 << 30), ("1t", 1 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    from bnfold.cli.recalibrate import _bytes

    assert _bytes(text) == size
