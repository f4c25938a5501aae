"""The population method: exact, and the same whatever the batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from bnfold.data import SampleOptions
from bnfold.formats import open_model
from bnfold.jobs.recalibrate import recalibrate
from bnfold.jobs.recalibration_result import RecalibrationOptions, RecalibrationResult
from bnfold.recalibration.output_change import compared_batches

from .networks import CALIBRATION, SAMPLES, Builder, Found, digits, reference_statistics, stored

NETWORKS = [
    "residual_stale_statistics",
    "mlp_bn_before",
    "mlp_bn_after",
    "preact",
    "repvgg",
    "transposed",
]


def run(
    source: Path, data: Path, target: Path, sampling: SampleOptions | None = None, **options: Any
) -> RecalibrationResult:
    result = recalibrate(
        open_model(source), target, data, options=RecalibrationOptions(**options), sampling=sampling
    )
    assert result is not None
    return result


def save(path: Path, **arrays: NDArray[Any]) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def assert_same(found: Found, wanted: Found, rtol: float = 1e-5) -> None:
    """Means relative to the deviation: a mean near zero has no relative error of its own."""
    assert found.keys() == wanted.keys()
    for name, (mean, variance) in wanted.items():
        deviation = np.sqrt(variance + 1e-5)
        assert (np.abs(found[name][0] - mean) <= rtol * np.maximum(deviation, np.abs(mean))).all()
        np.testing.assert_allclose(found[name][1], variance, rtol=rtol, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_against_float64(name: str, tmp_path: Path) -> None:
    source, images = SAMPLES / f"{name}.onnx", digits(24)
    data = save(tmp_path / "data.npz", image=images)
    result = run(source, data, tmp_path / "out.onnx", batch_size=7)
    found = stored(tmp_path / "out.onnx")
    # onnx.reference does not run a ConvTranspose in groups; the layer behind it is left to the
    # self-check.
    grouped = "/up2/bn/BatchNormalization"
    wanted = reference_statistics(source, {"image": images}, skip=(grouped,))
    assert_same({k: v for k, v in found.items() if k != grouped}, wanted)
    assert result.check.agrees and result.check.variance_error < 1e-5


@pytest.mark.parametrize(
    ("order", "options"),
    [
        (lambda n, labels: np.arange(n), {"batch_size": 1}),
        (lambda n, labels: np.arange(n), {"batch_size": 7}),
        (lambda n, labels: np.arange(n), {"batch_size": 512}),
        (lambda n, labels: np.arange(n), {"batch_size": 511}),
        (lambda n, labels: np.random.default_rng(0).permutation(n), {"batch_size": 64}),
        (lambda n, labels: np.argsort(labels, kind="stable"), {"batch_size": 64}),
        (lambda n, labels: np.arange(n), {"batch_size": 64, "cache_memory": 0}),
        (lambda n, labels: np.arange(n), {"batch_size": 64, "cache_memory": 2 << 20}),
    ],
    ids=[
        "one",
        "seven",
        "all",
        "last batch of one",
        "shuffled",
        "by class",
        "disk",
        "part on disk",
    ],
)
def test_batches_and_order_do_not_matter(
    order: Callable[..., NDArray[np.int64]], options: dict[str, Any], tmp_path: Path
) -> None:
    source = SAMPLES / "residual_stale_statistics.onnx"
    with np.load(CALIBRATION) as archive:
        images, labels = archive["image"], archive["label"]
    rows = order(len(images), labels)
    run(source, CALIBRATION, tmp_path / "plain.onnx", batch_size=64)
    data = save(tmp_path / "data.npz", image=images[rows], label=labels[rows])
    run(source, data, tmp_path / "other.onnx", **options)
    assert_same(stored(tmp_path / "other.onnx"), stored(tmp_path / "plain.onnx"), rtol=1e-6)


def test_recomputed_where_nothing_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SAMPLES / "repvgg.onnx"
    run(source, CALIBRATION, tmp_path / "kept.onnx")
    monkeypatch.setattr("bnfold.recalibration.cache._SHARE_OF_DISK", 0.0)
    result = run(source, CALIBRATION, tmp_path / "computed.onnx", cache_memory=0)
    # Three levels behind the first, and the outputs of one batch in three.
    assert (
        result.cost.recomputed_batches == 16 * 3 + 6 and not result.cost.memory + result.cost.disk
    )
    assert_same(stored(tmp_path / "computed.onnx"), stored(tmp_path / "kept.onnx"), rtol=1e-6)


def test_only_statistics_change(tmp_path: Path) -> None:
    source = SAMPLES / "repvgg.onnx"
    before = source.read_bytes()
    run(source, CALIBRATION, tmp_path / "out.onnx")
    assert source.read_bytes() == before
    old, new = onnx.load(source), onnx.load(tmp_path / "out.onnx")
    assert [n.op_type for n in old.graph.node] == [n.op_type for n in new.graph.node]
    statistics = {n.input[i] for n in old.graph.node if len(n.input) == 5 for i in (3, 4)}
    after = {t.name: t for t in new.graph.initializer}
    for tensor in old.graph.initializer:
        same = tensor == after.get(tensor.name)
        assert same or tensor.name in statistics, tensor.name


def test_a_large_mean_keeps_its_variance(tmp_path: Path) -> None:
    builder = Builder(channels=2)
    builder.norm("x", "bn")
    source = builder.save(tmp_path / "m.onnx", "bn")
    values = np.random.default_rng(0).normal(1000, 0.01, (64, 2, 6, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    run(source, tmp_path / "x.npy", tmp_path / "out.onnx", batch_size=9)
    mean, variance = stored(tmp_path / "out.onnx")["bn"]
    exact = values.astype(np.float64)
    np.testing.assert_allclose(variance, exact.var(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=1e-7)


def test_a_layer_called_twice_is_one_population(tmp_path: Path) -> None:
    builder = Builder()
    a = builder.op("Relu", [builder.norm(builder.conv("x", "a"), "bn")], "left")
    b = builder.op("Relu", [builder.norm(builder.conv("x", "b"), "bn2", like="bn")], "right")
    builder.norm(builder.op("Add", [a, b], "sum"), "last")
    source = builder.save(tmp_path / "m.onnx", "last")
    values = np.random.default_rng(1).normal(size=(20, 3, 6, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    result = run(source, tmp_path / "x.npy", tmp_path / "out.onnx", batch_size=8)
    assert [c.name for c in result.batch_norms] == ["bn", "last"]
    assert result.batch_norms[0].values == 2 * values.size // 3
    found = stored(tmp_path / "out.onnx")
    np.testing.assert_array_equal(found["bn"], found["bn2"])
    # The two convolutions, by the definition of one.
    import onnxruntime as ort

    builder.tensors = [t for t in builder.tensors if t.name.endswith("weight")]
    builder.nodes = [n for n in builder.nodes if n.op_type == "Conv"]
    builder.op("Concat", ["a", "b"], "both", axis=0)
    both = builder.save(tmp_path / "both.onnx", "both")
    y = ort.InferenceSession(both.read_bytes(), providers=["CPUExecutionProvider"]).run(
        None, {"x": values}
    )[0]
    np.testing.assert_allclose(found["bn"][1], y.astype(np.float64).var(axis=(0, 2, 3)), rtol=1e-5)


def test_a_layer_called_on_its_own_output(tmp_path: Path) -> None:
    builder = Builder()
    first = builder.norm(builder.conv("x", "a"), "bn")
    builder.norm(builder.conv(builder.op("Relu", [first], "r"), "b"), "again", like="bn")
    source = builder.save(tmp_path / "m.onnx", "again")
    np.save(
        tmp_path / "x.npy", np.random.default_rng(1).normal(size=(20, 3, 6, 6)).astype(np.float32)
    )
    result = run(source, tmp_path / "x.npy", tmp_path / "out.onnx")
    assert [c.name for c in result.batch_norms] == ["bn", "again"]
    assert "each call got its own" in result.notes[-1] and result.check.agrees


def test_equal_tensors_do_not_make_one_layer(tmp_path: Path) -> None:
    """Exporters store equal tensors once; reset statistics are all equal."""
    builder = Builder()
    builder.norm(builder.conv("x", "a"), "one")
    builder.norm(builder.conv("one", "b"), "two")
    for node in builder.nodes:
        if node.name == "two":
            node.input[3], node.input[4] = "one.mean", "one.variance"
    source = builder.save(tmp_path / "m.onnx", "two")
    values = np.random.default_rng(1).normal(size=(20, 3, 6, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    run(source, tmp_path / "x.npy", tmp_path / "out.onnx")
    assert_same(stored(tmp_path / "out.onnx"), reference_statistics(source, {"x": values}))


def test_a_fixed_batch_is_filled_up_and_masked(tmp_path: Path) -> None:
    def build(batch: int | str) -> Path:
        builder = Builder(batch=batch)
        builder.norm(builder.conv("x", "a"), "one")
        builder.norm(builder.conv(builder.op("Relu", ["one"], "r"), "b"), "two")
        return builder.save(tmp_path / f"{batch}.onnx", "two")

    values = np.random.default_rng(1).normal(size=(21, 3, 6, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    fixed = run(build(8), tmp_path / "x.npy", tmp_path / "fixed.onnx", batch_size=3)
    run(build("n"), tmp_path / "x.npy", tmp_path / "free.onnx")
    assert fixed.batch_norms[0].values == 21 * 36
    assert_same(stored(tmp_path / "fixed.onnx"), stored(tmp_path / "free.onnx"), rtol=1e-6)


@pytest.mark.parametrize("prior", [8, 100])
def test_prior_is_blended_layer_by_layer(prior: int, tmp_path: Path) -> None:
    source, images = SAMPLES / "residual.onnx", digits(16) * 0.35 + 0.4
    data = save(tmp_path / "data.npz", image=images)
    result = run(source, data, tmp_path / "out.onnx", prior=prior)
    wanted = reference_statistics(source, {"image": images}, prior)
    assert_same(stored(tmp_path / "out.onnx"), wanted)
    assert result.check.agrees
    old, new = stored(source), stored(tmp_path / "out.onnx")
    first = "/stem/bn/BatchNormalization"
    full = reference_statistics(source, {"image": images})[first][0]
    weight = prior / (prior + 16)
    np.testing.assert_allclose(
        new[first][0], weight * old[first][0] + (1 - weight) * full, atol=1e-6
    )


def test_unbiased_variance(tmp_path: Path) -> None:
    source = SAMPLES / "mlp_bn_before.onnx"
    options = SampleOptions(samples=16)
    biased = run(source, CALIBRATION, tmp_path / "b.onnx", options, only=("*layer1*",))
    unbiased = run(
        source, CALIBRATION, tmp_path / "u.onnx", options, only=("*layer1*",), variance="unbiased"
    )
    assert (biased.variance, unbiased.variance) == ("biased", "unbiased")
    name = biased.batch_norms[0].name
    ratio = stored(tmp_path / "u.onnx")[name][1] / stored(tmp_path / "b.onnx")[name][1]
    np.testing.assert_allclose(ratio, 16 / 15, rtol=1e-5)


def test_only_and_skip(tmp_path: Path) -> None:
    source = SAMPLES / "residual_stale_statistics.onnx"
    result = run(
        source, CALIBRATION, tmp_path / "out.onnx", only=("*block1*", "*stem*"), skip=("*second*",)
    )
    names = {c.name for c in result.batch_norms}
    assert names == {"/stem/bn/BatchNormalization", "/block1/first/bn/BatchNormalization"}
    assert len(result.untouched) == 6
    old, new = stored(source), stored(tmp_path / "out.onnx")
    for name in old.keys() - names:
        np.testing.assert_array_equal(old[name], new[name])
    assert result.check.agrees


def test_half_precision(tmp_path: Path) -> None:
    builder = Builder()
    builder.dtype = np.float16
    builder.norm(builder.conv("x", "a"), "one")
    builder.norm(builder.op("Relu", ["one"], "r"), "two")
    source = builder.save(tmp_path / "m.onnx", "two")
    values = np.random.default_rng(1).normal(size=(40, 3, 6, 6)).astype(np.float16)
    np.save(tmp_path / "x.npy", values)
    result = run(source, tmp_path / "x.npy", tmp_path / "out.onnx")
    assert result.check.agrees
    for name, (mean, variance) in stored(tmp_path / "out.onnx").items():
        assert np.isfinite(mean).all() and (variance > 0).all(), name


@pytest.mark.parametrize(
    ("count", "samples", "expected"),
    [(1, 1, 1), (4, 64, 4), (16, 256, 6), (128, 2048, 43), (16, 16, 16), (2, 9000, 2), (9, 90, 7)],
)
def test_outputs_are_compared_on_a_third_or_on_64_samples(
    count: int, samples: int, expected: int
) -> None:
    chosen = compared_batches(count, samples)
    assert len(chosen) == expected and {0, count - 1} <= chosen


def test_the_change_of_the_outputs_is_that_of_the_samples_it_names(tmp_path: Path) -> None:
    """512 samples, 6 batches of 32: the outputs of both files on those, in onnxruntime."""
    source, target = SAMPLES / "residual_stale_statistics.onnx", tmp_path / "out.onnx"
    (change,) = run(source, CALIBRATION, target, batch_size=32).outputs
    with np.load(CALIBRATION) as archive:
        images = archive["image"].reshape(16, 32, 1, 8, 8)[sorted(compared_batches(16, 512))]
    images = images.reshape(-1, 1, 8, 8)
    old, new = (
        ort.InferenceSession(str(file)).run(["scores"], {"image": images})[0]
        for file in (source, target)
    )
    assert change.samples == len(images) == 192
    assert change.argmax_agreement == (old.argmax(1) == new.argmax(1)).mean()
    moved = np.linalg.norm(new - old) / np.linalg.norm(old)
    assert change.relative_change == pytest.approx(moved, rel=1e-4)
