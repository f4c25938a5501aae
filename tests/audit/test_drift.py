"""Drift measures against their definitions, and the pass over the data against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfold.audit import Drift, Observed, in_words
from bnfold.audit.drift import jeffreys
from bnfold.data import open_sample
from bnfold.formats.onnx import OnnxModel
from bnfold.formats.onnx.run.observer import OnnxObserver
from bnfold.jobs import inspect
from bnfold.kinds import Norm

from .networks import conv_bn, healthy, seen

positive = st.floats(1e-3, 1e3)


def _norm(**changes: float) -> Norm:
    p = healthy()
    return Norm(8, 1e-5, 0.9, p["mean"], p["variance"], p["scale"], p["shift"], np.dtype("f4"))


@given(st.floats(-10, 10), positive, positive)
def test_jeffreys_is_both_kullback_leibler_divergences(d: float, v: float, w: float) -> None:
    """KL(p, q) = (log(w/v) + (v + d²)/w - 1) / 2, and the other way round."""
    forth = 0.5 * (np.log(w / v) + (v + d * d) / w - 1)
    back = 0.5 * (np.log(v / w) + (w + d * d) / v - 1)
    found = jeffreys(np.array(d), np.array(v), np.array(w))
    assert float(found) == pytest.approx(forth + back, rel=1e-9, abs=1e-9)


def test_no_difference_is_no_drift() -> None:
    drift = Drift.of(_norm(), seen(healthy()))
    assert drift.mean_rms == pytest.approx(0, abs=1e-12)
    assert drift.variance_factor == pytest.approx(1)
    assert drift.layer_divergence == pytest.approx(0, abs=1e-12)


def test_shift_and_factor_come_back() -> None:
    drift = Drift.of(_norm(), seen(healthy(), shift=-1.5, factor=0.25))
    assert drift.mean_rms == pytest.approx(1.5)
    assert drift.variance_factor == pytest.approx(4, rel=1e-3)
    assert drift.variance_direction < 1


def test_dead_channels_do_not_count_until_they_speak() -> None:
    norm = _norm()
    norm.variance[0] = 1e-40
    silent = seen(healthy())
    silent.variance[0] = 1e-40
    assert not Drift.of(norm, silent, 1e-10).live[0]
    loud = seen(healthy())
    assert Drift.of(norm, loud, 1e-10).live[0]


def _observed(tmp_path: Path, data: np.ndarray, batch: int | None = None) -> Observed:
    from bnfold.audit.observation import observe

    model = conv_bn()
    if batch is not None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(model, tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", data)
    opened = OnnxModel(tmp_path / "m.onnx")
    sample = open_sample(tmp_path / "x.npy", opened.inputs)
    return observe(OnnxObserver(opened, tmp_path), sample)["bn"]


@pytest.mark.parametrize("batch", [None, 4])
def test_one_pass_measures_what_reaches_the_layer(tmp_path: Path, batch: int | None) -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(3, 2, (37, 8, 6, 6)).astype(np.float32)
    found = _observed(tmp_path, data, batch)
    weight = onnx.numpy_helper.to_array(
        next(t for t in conv_bn().graph.initializer if t.name == "conv.weight")
    )[:, :, 0, 0].astype(np.float64)
    values = np.einsum("oi,nihw->onhw", weight, data.astype(np.float64)).reshape(8, -1)
    assert (found.count, found.samples) == (values.shape[1], 37)
    np.testing.assert_allclose(found.mean, values.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.variance, values.var(1), rtol=1e-4)
    assert found.percentiles is not None
    expected = np.percentile(values, [15, 50, 85], axis=1)
    assert found.percentiles.shape == (3, 8)
    np.testing.assert_allclose(found.percentiles, expected, atol=0.15 * values.std())


def test_a_model_without_batch_norm_is_observed_as_nothing(tmp_path: Path) -> None:
    from .networks import conv, network

    onnx.save(network(conv("conv", "x", "y")), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.ones((4, 8, 6, 6), np.float32))
    result = inspect(OnnxModel(tmp_path / "m.onnx"), data=tmp_path / "x.npy")
    assert in_words(result.findings) == "no findings"
    assert result.to_json()["data"] == str(tmp_path / "x.npy")


def test_stale_statistics_are_seen_and_true_ones_are_not(sample_models: Path) -> None:
    data = sample_models / "digits_calibration.npz"
    stale = inspect(OnnxModel(sample_models / "residual_stale_statistics.onnx"), data=data)
    true = inspect(OnnxModel(sample_models / "residual.onnx"), data=data)
    assert {"BN401", "BN402", "BN404"} <= {f.code for f in stale.findings}
    assert not [f for f in true.findings if f.code.startswith("BN4")]
    (begins,) = (f for f in stale.findings if f.code == "BN404")
    assert begins.layer == "/stem/bn/BatchNormalization"
    drift = stale.to_json()["batch_norms"][0]["drift"]
    assert drift["variance_factor"] > 2
    assert drift["values_per_channel"] == 512 * 64
