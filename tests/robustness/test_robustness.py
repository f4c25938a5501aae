"""A few hundred damaged files with a fixed seed; see the package for the long run by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustness.cases import Verdict, run_onnx_case
from robustness.judge import Run, faults
from robustness.mutate_onnx import mutated
from robustness.other import run_other_case
from robustness.worker import Worker
from situations import BY_NAME

_SLICES, _ONNX, _OTHER, _SEED = 10, 25, 6, 2026


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.mark.parametrize("part", range(_SLICES))
def test_damaged_onnx_models(part: int, worker: Worker, tmp_path: Path) -> None:
    _all_well(
        run_onnx_case(number, _SEED, tmp_path / "case", worker)
        for number in range(part * _ONNX, (part + 1) * _ONNX)
    )


@pytest.mark.parametrize("part", range(_SLICES))
def test_damaged_torch_files_and_data(part: int, worker: Worker, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    _all_well(
        run_other_case(number, _SEED, tmp_path / "case", worker)
        for number in range(part * _OTHER, (part + 1) * _OTHER)
    )


def _all_well(verdicts: Iterator[Verdict]) -> None:
    found = list(verdicts)
    failed = [f"{v.number} {' '.join(v.arguments)}: {v.faults}" for v in found if v.faults]
    assert not failed, "\n".join(failed)
    assert any(v.code == 2 for v in found)  # something was damaged


def test_a_case_is_the_same_every_time() -> None:
    model = BY_NAME["conv_2d"].build()
    whole = model.SerializeToString()
    first, again, other = (mutated(model, random.Random(seed)) for seed in ("a", "a", "b"))
    assert first == again != other
    assert model.SerializeToString() == whole


@pytest.mark.parametrize(
    ("code", "out", "err", "left", "fault"),
    [
        (3, "", "", (), "exit code 3"),
        (2, "", "", (), "exit code 2 without a word"),
        (2, "", "bnfold: an unexpected error (KeyError: 1)", (), "unexpected"),
        (1, "", "Traceback (most recent call last):", (), "traceback"),
        (0, '{"a": NaN}', "", (), "no JSON"),
        (2, "", "bnfold: no", ("out.onnx",), "left behind"),
        (0, "{}", "", (".bnfold-1",), "left behind"),
    ],
)
def test_faults_are_seen(
    code: int, out: str, err: str, left: tuple[str, ...], fault: str, tmp_path: Path
) -> None:
    for name in left:
        (tmp_path / name).touch()
    run = Run(("inspect", "--format", "json"), code, out, err, tmp_path)
    assert any(fault in found for found in faults(run, tmp_path / "model.onnx"))


def test_a_wrong_output_is_seen(tmp_path: Path) -> None:
    model = BY_NAME["conv_2d"].build()
    source, target = tmp_path / "model.onnx", tmp_path / "out" / "out.onnx"
    target.parent.mkdir()
    source.write_bytes(model.SerializeToString())
    target.write_bytes(model.SerializeToString())
    run = Run(("fold",), 0, "", "", target.parent)
    assert not faults(run, source)
    scale = next(t for t in model.graph.initializer if t.name.endswith("scale"))
    scale.raw_data = scale.raw_data[:-4] + b"\0\0\0\0"
    target.write_bytes(model.SerializeToString())
    assert faults(run, source) == [f"output {model.graph.output[0].name!r} differs"]
    target.write_bytes(b"no model")
    assert "does not load" in faults(run, source)[0]


def test_a_hang_is_ended(tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(100)\n", encoding="utf-8")
    worker = Worker(limit=2)
    assert worker(["inspect", f"{slow}:make"], tmp_path)[0] == "hang"
    assert worker(["--version"], tmp_path)[0] == 0
    worker.close()
