"""Trained networks as users hold them, some beside an oracle: the same network folded by others."""

from __future__ import annotations

import wave
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import bnfold
from bnfold.jobs import FoldResult
from situations.build import operators
from situations.run import error, run

Arrays = dict[str, NDArray[Any]]
Folding = Callable[..., tuple[FoldResult, Path]]


@pytest.fixture(scope="module")
def folding(real_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Folding:
    """Folds a real model once, proved, and gives the result and the file."""
    place = tmp_path_factory.mktemp("real")
    done: dict[tuple[str, bool], tuple[FoldResult, Path]] = {}

    def fold(name: str, *, freeze: bool = False) -> tuple[FoldResult, Path]:
        if (name, freeze) not in done:
            target = place / f"{len(done)}.onnx"
            model = bnfold.load(real_models / name, freeze_initializers=freeze)
            result = bnfold.fold(model, target)
            assert result.ok, result.to_json()["verification"]
            done[name, freeze] = result.report, target
        return done[name, freeze]

    return fold


def _norms(path: Path) -> int:
    return operators(onnx.load(path).graph)["BatchNormalization"]


def _photographs(place: Path) -> Iterator[NDArray[np.float32]]:
    image = pytest.importorskip("PIL.Image", reason="Pillow decodes the photographs")
    for name in ("1.jpg", "2.jpg"):
        with image.open(place / name) as photograph:
            pixels = np.asarray(photograph.convert("RGB").resize((320, 240)), np.float32)
        yield ((pixels - 127) / 128).transpose(2, 0, 1)[None]


ULTRAFACE = {
    "version-RFB-320.onnx": (35, None),
    "version-RFB-320_without_postprocessing.onnx": (35, "version-RFB-320_simplified.onnx"),
    "version-slim-320_without_postprocessing.onnx": (25, "version-slim-320_simplified.onnx"),
}


@pytest.mark.parametrize("name", ULTRAFACE)
def test_ultraface_needs_freezing(name: str, real_models: Path) -> None:
    """Its initializers are graph inputs as well, so that a caller may replace them."""
    count, _ = ULTRAFACE[name]
    kept = bnfold.inspect(real_models / "linzaer-ultraface" / name).plan.batch_norms
    codes = Counter(d.reason.reason.code for d in kept if d.reason)
    assert codes == {"overridable_initializer": count}
    assert all("--freeze-initializers" in d.reason.message for d in kept if d.reason)


@pytest.mark.parametrize("name", ULTRAFACE)
def test_ultraface_on_photographs(name: str, real_models: Path, folding: Folding) -> None:
    place = real_models / "linzaer-ultraface"
    count, oracle = ULTRAFACE[name]
    result, target = folding(f"linzaer-ultraface/{name}", freeze=True)
    assert len(result.plan.batch_norms) == count
    assert _norms(target) == result.batch_norms_left == 0
    # One decodes its boxes: two Mul go as well, and four Constants that made their factors.
    more = {"version-RFB-320.onnx": 6}.get(name, 0)
    assert result.nodes_before - result.nodes_after == count + more
    others = [place / name] + ([place / oracle] if oracle else [])
    for photograph in _photographs(place):
        ours = run(target, {"input": photograph})
        for other in others:
            assert error(run(other, {"input": photograph}), ours) < 5e-5


def test_picodet_agrees_with_its_oracle(real_models: Path, folding: Folding) -> None:
    """Weights and parameters are Constant nodes."""
    result, target = folding("paddle2onnx-zoo/picodet_s_320_coco.onnx")
    assert len(result.plan.batch_norms) == 103
    assert _norms(target) == result.batch_norms_left == 0
    oracle = real_models / "paddle2onnx-zoo" / "picodet_s_320_coco_sim.onnx"
    image = np.random.default_rng(0).standard_normal((1, 3, 320, 320)).astype(np.float32)
    outputs = [o.name for o in onnx.load(target).graph.output]
    assert outputs == [o.name for o in onnx.load(oracle).graph.output]
    assert error(run(oracle, {"image": image}), run(target, {"image": image})) < 2e-5


def test_deeplab_agrees_with_its_oracle(real_models: Path, folding: Folding) -> None:
    result, target = folding("portrait-seg/models_deeplab_dm05_513_deeplab_nchw.onnx", freeze=True)
    assert len(result.plan.batch_norms) == 54
    assert _norms(target) == 0
    oracle = real_models / "portrait-seg" / "deepstream_multiseg_deeplab_nchw.onnx"
    name = "MobilenetV2/MobilenetV2/input:0"
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 513, 513)).astype(np.float32)
    assert error(run(oracle, {name: image}), run(target, {name: image})) < 5e-5


def test_sinet(folding: Folding) -> None:
    """BN after Add, Concat and Resize, before PReLU; what stays has a few negative or tiny scales."""
    result, target = folding("portrait-seg/SINet_SINet.onnx", freeze=True)
    assert len(result.plan.batch_norms) == 58
    assert _norms(target) == result.batch_norms_left == 10
    codes = Counter(d.reason.reason.code for d in result.plan.batch_norms if d.reason)
    assert codes == {
        "negative_scale": 6,
        "shared_value": 2,
        "scale_range": 1,
        "padded_reader": 1,
    }


def _frames(path: Path) -> NDArray[np.float32]:
    """The recording's short-time spectrum, (frames, 1, 257, 1, 2)."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768
        samples = samples[:: file.getnchannels()]
    window = np.sqrt(np.hanning(513)[:512])
    starts = range(0, min(len(samples), 16000) - 512, 256)
    spectrum = np.stack([np.fft.rfft(window * samples[s : s + 512]) for s in starts])
    parts = np.stack([spectrum.real, spectrum.imag], -1)
    return parts[:, None, :, None, :].astype(np.float32)


@pytest.mark.parametrize("name", ["gtcrn.onnx", "gtcrn_simple.onnx"])
def test_gtcrn_on_a_recording(name: str, real_models: Path, folding: Folding) -> None:
    """ConvTranspose with groups; a second of speech goes through frame by frame, with its state."""
    result, target = folding(f"gtcrn/{name}")
    assert len(result.plan.batch_norms) == 11
    assert _norms(target) == 0
    source = real_models / "gtcrn" / name
    model = onnx.load(source)
    shapes = {
        i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input
    }
    states = [name for name in shapes if name != "mix"]
    kept: dict[Path, Arrays] = {
        path: {s: np.zeros(shapes[s], np.float32) for s in states} for path in (source, target)
    }
    for frame in _frames(real_models / "gtcrn" / "mix.wav")[:20]:
        outputs = {p: run(p, {"mix": frame, **kept[p]}) for p in (source, target)}
        assert error(outputs[source], outputs[target]) < 5e-5
        kept = {p: dict(zip(states, o[1:], strict=True)) for p, o in outputs.items()}


def test_residual_block(folding: Folding) -> None:
    result, target = folding("nvidia-residual-block/residual_block.onnx")
    assert len(result.plan.batch_norms) == 5
    assert _norms(target) == 0
    assert result.verification is not None
    assert all(o.informs for o in result.verification.outputs)


def test_layer_norm_of_openwakeword_is_untouched(real_models: Path, folding: Folding) -> None:
    name = "openwakeword/hey_rhasspy_v0.1.onnx"
    result, target = folding(name)
    assert result.plan.decisions == ()
    before, after = onnx.load(real_models / name), onnx.load(target)
    assert list(before.graph.node) == list(after.graph.node)
    assert {t.name: t for t in before.graph.initializer} == {
        t.name: t for t in after.graph.initializer
    }


DORY = {"TCN_T_TCN.onnx": ((1, 1, 140), 22), "dscnn_test_model_int.onnx": ((1, 1, 49, 10), 20)}


@pytest.mark.parametrize("name", DORY)
def test_decomposed_norms_of_dory_fold_bit_for_bit(
    name: str, real_models: Path, folding: Folding
) -> None:
    """Conv -> Mul -> Add on whole numbers: every product is exact, so nothing may change at all."""
    shape, affines = DORY[name]
    result, target = folding(f"dory/{name}")
    assert result.plan.batch_norms == ()
    assert len(result.plan.affines) == affines
    assert result.nodes_after < result.nodes_before
    rng = np.random.default_rng(0)
    for _ in range(3):
        feeds: Arrays = {"input.1": rng.integers(0, 256, shape).astype(np.float32)}
        for ours, theirs in zip(
            run(real_models / "dory" / name, feeds), run(target, feeds), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "count", "left"),
    [
        ("paddle2onnx-zoo/PP_OCR_v2_cls_a.onnx", 35, 0),
        ("onnx-light-zoo/light_shufflenet.onnx", 49, 0),
        ("onnx-light-zoo/light_inception_v2.onnx", 69, 0),
    ],
)
def test_others(name: str, count: int, left: int, folding: Folding) -> None:
    result, target = folding(name)
    assert len(result.plan.batch_norms) == count
    assert _norms(target) == left


def test_concats_of_densenet_allow_one_shift(real_models: Path) -> None:
    """All norms of this file are alike, so that the readers of a concat agree on its shift; those
    behind a pool of a rectified value need another one than the rectifier allows."""
    plan = bnfold.inspect(real_models / "onnx-light-zoo" / "light_densenet121.onnx").plan
    assert len(plan.batch_norms) == 121
    assert plan.kept == 7
    messages = [d.reason.message for d in plan.batch_norms if d.reason]
    assert all("also reads the values" in m for m in messages)
