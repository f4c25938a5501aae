"""Models whose inputs have no common batch axis: a sample is all that one call takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bnfold.data import InputSpec, open_sample
from bnfold.data.signature import samples_per_run, takes_whole_calls
from bnfold.errors import DataError
from bnfold.formats.onnx import OnnxModel
from bnfold.jobs import fold, inspect
from bnfold.jobs.recalibrate import recalibrate

from .networks import stored

CALLS = 9
SIGNAL = np.random.default_rng(0).normal(3, 2, (CALLS, 1, 2, 5)).astype(np.float32)
STATE = np.random.default_rng(1).normal(-1, 1, (CALLS, 2, 2, 5)).astype(np.float32)


def specs(*shapes: tuple[int | None, ...]) -> list[InputSpec]:
    return [InputSpec(f"i{n}", np.dtype("float32"), shape) for n, shape in enumerate(shapes)]


@pytest.mark.parametrize(
    ("shapes", "whole", "per_run"),
    [
        ([(None, 3)], False, None),
        ([(None, 3), (None, 5)], False, None),
        ([(8, 3), (8, 5)], False, 8),
        ([(None, 3), (1,)], False, 1),
        ([(1, 3), (2, 5)], True, 1),
        ([(None, 3), (2, None, 64)], True, 1),
        ([(None, 3), ()], True, 1),
        ([(4, 3)], False, 4),
    ],
)
def test_what_counts_samples(shapes: Any, whole: bool, per_run: int | None) -> None:
    assert takes_whole_calls(specs(*shapes)) is whole
    assert samples_per_run(specs(*shapes)) == per_run


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    """``signal`` [1, 2, 5] beside ``state`` [2, 2, 5], joined along the first axis before a BN."""
    tensors = {
        "scale": np.array([1.5, 0.5]),
        "shift": np.array([0.1, -0.1]),
        "mean": np.zeros(2),
        "var": np.ones(2),
        "weight": np.random.default_rng(2).normal(size=(3, 2, 1)),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Concat", ["signal", "state"], ["both"], "join", axis=0),
            helper.make_node("Relu", ["both"], ["positive"], "relu"),
            helper.make_node(
                "BatchNormalization", ["positive", "scale", "shift", "mean", "var"], ["n"], "bn"
            ),
            helper.make_node("Conv", ["n", "weight"], ["y"], "conv"),
        ],
        "g",
        [
            helper.make_tensor_value_info("signal", TensorProto.FLOAT, [1, 2, 5]),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, 2, 5]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 3, 5])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in tensors.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, tmp_path / "m.onnx")
    return OnnxModel(tmp_path / "m.onnx")


def as_npz(folder: Path) -> str:
    np.savez(folder / "calls.npz", signal=SIGNAL, state=STATE, label=np.arange(CALLS))
    return str(folder / "calls.npz")


def as_folder(folder: Path) -> str:
    (folder / "calls").mkdir()
    for n in range(CALLS):
        np.savez(folder / "calls" / f"{n}.npz", signal=SIGNAL[n], state=STATE[n])
    return str(folder / "calls")


def as_callable(folder: Path) -> str:
    np.savez(folder / "kept.npz", signal=SIGNAL, state=STATE)
    source = f"""
import numpy as np
def calls():
    kept = np.load({str(folder / "kept.npz")!r})
    for signal, state in zip(kept["signal"], kept["state"]):
        yield {{"signal": signal, "state": state}}
"""
    (folder / "mine.py").write_text(source)
    return f"{folder / 'mine.py'}:calls"


@pytest.mark.parametrize("saved", [as_npz, as_folder, as_callable])
def test_population_over_calls(
    saved: Callable[[Path], str], model: OnnxModel, tmp_path: Path
) -> None:
    data = saved(tmp_path)
    result = recalibrate(model, tmp_path / "new.onnx", data)
    assert result is not None and result.ok and result.samples == CALLS
    joined: NDArray[np.float64] = np.concatenate([SIGNAL, STATE], axis=1).astype(np.float64)
    x = np.maximum(joined, 0).reshape(-1, 2, 5)
    mean, variance = stored(tmp_path / "new.onnx")["bn"]
    np.testing.assert_allclose(mean, x.mean(axis=(0, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, x.var(axis=(0, 2)), rtol=1e-6)
    # Every other row makes a half of the sample, in batches of one as well.
    assert result.batch_norms[0].half_moved > 0


def test_inspect_and_fold_take_the_same_data(model: OnnxModel, tmp_path: Path) -> None:
    data = as_npz(tmp_path)
    drift = inspect(model, data=data).batch_norms[0].drift
    assert drift is not None and drift.mean_shift.min() > 0.1
    result = fold(model, tmp_path / "folded.onnx", data=data)
    assert result.ok and result.plan.kept == 0
    assert result.verification is not None and f"{CALLS} samples" in result.verification.inputs


def test_what_does_not_fit_says_that_a_sample_is_a_call(model: OnnxModel, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", signal=SIGNAL[..., :4], state=STATE)
    with pytest.raises(DataError, match="each sample is all that one call takes"):
        open_sample(tmp_path / "d.npz", model.inputs)


def test_gtcrn(real_models: Path, tmp_path: Path) -> None:
    """A streaming network: one frame of a spectrum, and three caches that it hands on."""
    path = real_models / "gtcrn" / "gtcrn.onnx"
    if not path.is_file():
        pytest.skip("gtcrn is not there")
    model = OnnxModel(path)
    rng = np.random.default_rng(0)
    shapes = {s.name: tuple(n or 1 for n in s.shape or ()) for s in model.inputs}
    frames = {name: 0.1 * rng.normal(size=(12, *shape)) for name, shape in shapes.items()}
    np.savez(tmp_path / "frames.npz", **{k: v.astype(np.float32) for k, v in frames.items()})  # type: ignore[arg-type]
    result = recalibrate(model, tmp_path / "new.onnx", tmp_path / "frames.npz")
    assert result is not None and result.ok and result.check.agrees
    assert len(result.batch_norms) == 11 and result.samples == 12
