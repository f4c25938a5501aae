"""The batch method: Algorithm 2 of the paper, weighted by samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bnfold.errors import UsageError
from bnfold.formats import open_model
from bnfold.jobs.recalibrate import recalibrate
from bnfold.jobs.recalibration_result import RecalibrationOptions
from bnfold.kinds import Norm

from .networks import Builder, stored


@pytest.fixture
def source(tmp_path: Path) -> Path:
    builder = Builder(channels=2)
    builder.norm("x", "one")
    builder.norm(builder.op("Relu", ["one"], "r"), "two")
    return builder.save(tmp_path / "m.onnx", "two")


def test_algorithm_2(source: Path, tmp_path: Path) -> None:
    """E[x] = E_B[mu_B] and Var[x] = E_B[m/(m-1) var_B], batches weighted by their samples."""
    values = np.random.default_rng(0).normal(3, 2, (20, 2, 6, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    options = RecalibrationOptions(method="batch", batch_size=8)
    result = recalibrate(
        open_model(source), tmp_path / "o.onnx", tmp_path / "x.npy", options=options
    )
    assert result is not None and result.output is not None and result.variance == "unbiased"
    batches = [values[i : i + 8].astype(np.float64) for i in (0, 8, 16)]
    weights = np.array([8, 8, 4]) / 20
    for name in ("one", "two"):
        means = np.stack([b.mean(axis=(0, 2, 3)) for b in batches])
        variances = np.stack([b.var(axis=(0, 2, 3), ddof=1) for b in batches])
        mean, variance = stored(tmp_path / "o.onnx")[name]
        np.testing.assert_allclose(mean, weights @ means, rtol=1e-5)
        np.testing.assert_allclose(variance, weights @ variances, rtol=1e-5)
        (norm,) = (n.kind for n in open_model(source).graph.norms if n.name == name)
        assert isinstance(norm, Norm)
        for i, batch in enumerate(batches):  # each batch goes on normalised by itself
            spread = np.sqrt(batch.var(axis=(0, 2, 3), keepdims=True) + 1e-5)
            normal = (batch - batch.mean(axis=(0, 2, 3), keepdims=True)) / spread
            scale, shift = (v.reshape(1, -1, 1, 1) for v in (norm.scale, norm.shift))
            batches[i] = np.maximum(normal * scale + shift, 0)


def test_a_last_batch_of_one_value_is_left_out(tmp_path: Path) -> None:
    builder = Builder(channels=4)
    builder.shape = ["n", 4]
    builder.norm("x", "one")
    source = builder.save(tmp_path / "m.onnx", "one")
    values = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    options = RecalibrationOptions(method="batch", batch_size=8)
    recalibrate(open_model(source), tmp_path / "o.onnx", tmp_path / "x.npy", options=options)
    np.testing.assert_allclose(
        stored(tmp_path / "o.onnx")["one"][1],
        values[:8].astype(np.float64).var(axis=0, ddof=1),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    "options", [{"prior": 4.0}, {"variance": "biased"}], ids=["prior", "variance"]
)
def test_what_the_method_does_not_offer(
    source: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    wanted = RecalibrationOptions(method="batch", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="population"):
        recalibrate(open_model(source), tmp_path / "o.onnx", tmp_path / "x.npy", options=wanted)
