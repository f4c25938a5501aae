"""Nothing is written unless everything is right, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from bnfold.errors import (
    BnfoldError,
    DataError,
    OutputError,
    RuntimeUnavailableError,
    UsageError,
)
from bnfold.formats import open_model
from bnfold.jobs.recalibrate import recalibrate
from bnfold.jobs.recalibration_result import RecalibrationOptions, RecalibrationResult
from bnfold.recalibration.observer import RuntimeOptions
from situations.build import Net

from .networks import CALIBRATION, SAMPLES, Builder, digits

STALE = SAMPLES / "residual_stale_statistics.onnx"


def run(
    data: Path | str, target: Path, source: Path = STALE, **options: Any
) -> RecalibrationResult | None:
    evaluate = options.pop("evaluate", None)
    wanted = RecalibrationOptions(**options)
    return recalibrate(open_model(source), target, data, options=wanted, evaluate=evaluate)


def accuracy(path: Path) -> float:
    import onnxruntime as ort

    with np.load(SAMPLES / "digits_test.npz") as archive:
        images, labels = archive["image"], archive["label"]
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    scores: NDArray[np.float32] = session.run(None, {"image": images})[0]
    return float((scores.argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("method", ["population", "batch"])
def test_stale_statistics_mend(method: str, tmp_path: Path) -> None:
    result = run(CALIBRATION, tmp_path / "out.onnx", method=method, evaluate=accuracy)
    assert result is not None and result.evaluation is not None and result.ok
    assert result.evaluation.before == pytest.approx(0.718, abs=0.01)
    assert result.evaluation.after > 0.98
    assert "of the predictions" in result.warnings[0], "a large change is never kept quiet"


def test_an_evaluation_that_falls_writes_nothing(tmp_path: Path) -> None:
    scores = iter([0.9, 0.8, 0.9, 0.8])
    for drop, written in ((0.0, False), (0.2, True)):
        result = run(
            CALIBRATION, tmp_path / "out.onnx", max_drop=drop, evaluate=lambda path: next(scores)
        )
        assert result is not None and result.ok is written
        assert os.listdir(tmp_path) == (["out.onnx"] if written else [])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("method", ["population", "batch"])
def test_non_finite_data_names_the_sample_and_the_input(
    bad: float, method: str, tmp_path: Path
) -> None:
    images = digits(100)
    images[70, 0, 3, 3] = bad
    np.save(tmp_path / "x.npy", images)
    with pytest.raises(DataError, match=r"sample 70 of .*x\.npy .* in input image"):
        run(tmp_path / "x.npy", tmp_path / "out.onnx", batch_size=32, method=method)
    assert os.listdir(tmp_path) == ["x.npy"]


def test_values_that_overflow_name_the_layer(tmp_path: Path) -> None:
    builder = Builder()
    builder.norm(builder.conv("x", "a"), "one")
    builder.op("Exp", ["one"], "e")
    builder.op("Exp", ["e"], "ee")
    builder.norm(builder.op("Exp", ["ee"], "eee"), "two")
    builder.norm(builder.conv("two", "b"), "three")
    source = builder.save(tmp_path / "m.onnx", "three")
    values = np.random.default_rng(0).normal(size=(9, 3, 6, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(
        DataError, match=r"infinite values at two.* though the data itself is finite"
    ):
        run(tmp_path / "x.npy", tmp_path / "out.onnx", source)


def test_too_little_data(tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", digits(4)[:0])
    with pytest.raises(DataError, match="no samples"):
        run(tmp_path / "none.npy", tmp_path / "out.onnx")
    source = SAMPLES / "mlp_bn_before.onnx"
    np.save(tmp_path / "one.npy", digits(1))
    with pytest.raises(DataError, match="1 value per channel"):
        run(tmp_path / "one.npy", tmp_path / "out.onnx", source)
    assert not (tmp_path / "out.onnx").exists()


def test_a_hidden_batch_size_is_suspected(tmp_path: Path) -> None:
    builder = Builder(channels=2, size=2)
    shape = numpy_helper.from_array(np.array([1, 2, 2, 2]), "shape")
    builder.tensors.append(shape)
    builder.norm(builder.op("Reshape", ["x", "shape"], "r"), "bn")
    source = builder.save(tmp_path / "m.onnx", "bn")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(5, 2, 2, 2)))
    with pytest.raises(RuntimeUnavailableError, match=r"batches of 4 .*--batch-size"):
        run(tmp_path / "x.npy", tmp_path / "out.onnx", source, batch_size=4)
    result = run(tmp_path / "x.npy", tmp_path / "out.onnx", source, batch_size=1)
    assert result is not None and result.check.agrees


def test_the_input_is_not_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(STALE.read_bytes())
    with pytest.raises(OutputError, match="--force"):
        run(CALIBRATION, source, source)
    assert source.read_bytes() == STALE.read_bytes()
    result = run(CALIBRATION, source, source, force=True)
    assert result is not None and result.ok and source.read_bytes() != STALE.read_bytes()


def test_what_makes_no_sense(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"prior": -1.0}, {"batch_size": 0}, {"prior": float("nan")}, {"method": "median"},
        {"only": ("nothing*",)}, {"runtime": RuntimeOptions(provider="NoSuchProvider")},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(UsageError):
            run(CALIBRATION, tmp_path / "out.onnx", **options)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("moment", ["measuring", "checking"])
def test_interruption_leaves_nothing(moment: str, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        assert 0 <= done <= total and total > 0
        if stage == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recalibrate(open_model(STALE), tmp_path / "out.onnx", CALIBRATION, progress=interrupt)
    assert not os.listdir(tmp_path)


def test_a_failing_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bnfold.formats.onnx.file.save.write_model", full)
    with pytest.raises(BnfoldError):
        run(CALIBRATION, tmp_path / "out.onnx")
    assert not os.listdir(tmp_path)


def test_a_signal_ends_with_130(tmp_path: Path) -> None:
    """Ctrl-C at the command line, in a process of its own."""
    (tmp_path / "slow.py").write_text(
        "import time, numpy as np\n"
        "def images():\n"
        "    for i in range(10**6):\n"
        "        print('started', flush=True)\n"
        "        time.sleep(0.05)\n"
        "        yield np.zeros((1, 1, 8, 8), np.float32)\n"
    )
    work = tmp_path / "work"
    work.mkdir()
    arguments = [
        "recalibrate",
        str(STALE),
        "--data",
        f"{tmp_path / 'slow.py'}:images",
        "-o",
        str(work / "out.onnx"),
    ]
    environment = {**os.environ, "TMPDIR": str(work)}
    process = subprocess.Popen(
        [sys.executable, "-m", "bnfold", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    with process:
        assert process.stdout is not None and process.stdout.readline().strip() == "started"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.strip() == "bnfold: interrupted; nothing is left half-written"
    # onnxruntime may note down a session of its own.
    assert not [name for name in os.listdir(work) if "bnfold" in name or "out" in name]


@pytest.mark.parametrize("method", ["population", "batch"])
def test_other_channels_than_the_layer_has(method: str, tmp_path: Path) -> None:
    """A file whose sizes nobody can infer; onnxruntime itself is never asked for that layer."""
    net = Net()
    product = net.op("MatMul", net.input("N", "T", 5), net.weight(5, 5), name="product")
    turned = net.op("Transpose", product, name="turned")
    source = tmp_path / "m.onnx"
    onnx.save(net.model(net.relu(net.bn(turned, 5)), unknown=(TensorProto.FLOAT, 3)), source)
    np.savez(tmp_path / "d.npz", x=np.ones((8, 16, 5), np.float32))
    with pytest.raises(DataError, match="bn has 5 channels, and 16 reach it"):
        run(tmp_path / "d.npz", tmp_path / "o.onnx", source, method=method)
    assert not (tmp_path / "o.onnx").exists()


def test_a_fixed_batch_that_no_data_fills(tmp_path: Path) -> None:
    """A million rows to a run: filled up with copies they would take all memory."""
    net = Net()
    y = net.bn(net.conv(net.input(1 << 20, 3, 32, 32), 3, 4), 4)
    source = tmp_path / "m.onnx"
    onnx.save(net.model(net.relu(y)), source)
    np.savez(tmp_path / "d.npz", x=np.ones((8, 3, 32, 32), np.float32))
    with pytest.raises(DataError, match="takes 1,048,576 samples"):
        run(tmp_path / "d.npz", tmp_path / "o.onnx", source)
