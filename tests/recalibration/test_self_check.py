"""Faults planted between measuring and the written file: the check on a few batches finds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bnfold.formats import open_model
from bnfold.formats.onnx.run.observer import OnnxPiece
from bnfold.jobs.recalibrate import recalibrate
from bnfold.jobs.recalibration_result import RecalibrationOptions, RecalibrationResult
from bnfold.recalibration.cache import ActivationCache
from bnfold.recalibration.self_check import checked_batches, proof_batch_size
from situations.fold import spoil_written

from .networks import CALIBRATION, SAMPLES, stored

STALE = SAMPLES / "residual_stale_statistics.onnx"


def _run(target: Path, source: Path = STALE, **options: Any) -> RecalibrationResult:
    wanted = RecalibrationOptions(batch_size=16, **options)
    result = recalibrate(open_model(source), target, CALIBRATION, options=wanted)
    assert result is not None
    return result


def _tensors(model: onnx.ModelProto, position: int) -> list[onnx.TensorProto]:
    known = {t.name: t for t in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
    return [known[n.input[position]] for n in nodes]


def _swap_layers(model: onnx.ModelProto) -> None:
    means = _tensors(model, 3)
    first = next(m for m in means[1:] if m.dims == means[0].dims)
    means[0].raw_data, first.raw_data = first.raw_data, means[0].raw_data


def _swap_channels(model: onnx.ModelProto) -> None:
    tensor = _tensors(model, 4)[-1]
    array = numpy_helper.to_array(tensor).copy()
    array[[0, 1]] = array[[1, 0]]
    tensor.raw_data = array.tobytes()


def _one_channel(model: onnx.ModelProto) -> None:
    tensor = _tensors(model, 4)[3]
    array = numpy_helper.to_array(tensor).copy()
    array[2] *= 1.01
    tensor.raw_data = array.tobytes()


def _a_weight(model: onnx.ModelProto) -> None:
    """No statistic is wrong, but the layers behind it meet something else than was measured."""
    node = [n for n in model.graph.node if n.op_type == "Conv"][2]
    tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
    tensor.raw_data = (numpy_helper.to_array(tensor) * np.float32(1.05)).tobytes()


def test_nothing_planted(tmp_path: Path) -> None:
    result = _run(tmp_path / "out.onnx")
    assert result.ok and result.check.agrees and result.check.variance_error < 1e-5


@pytest.mark.parametrize("fault", [_swap_layers, _swap_channels, _one_channel, _a_weight])
def test_a_fault_in_the_written_file(
    fault: Callable[[onnx.ModelProto], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_written(monkeypatch, fault)
    result = _run(tmp_path / "out.onnx")
    assert not result.check.agrees and not result.ok and result.output is None
    assert not (tmp_path / "out.onnx").exists()


def test_layers_measured_behind_old_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer gets what was measured of it, but in another network than the written one."""
    run = OnnxPiece.run

    def wrongly(self: OnnxPiece, feeds: Any, statistics: Any) -> Any:
        old = {name: kind for name, kind in kinds.items() if name in statistics}
        return run(self, feeds, {**statistics, **old})

    kinds: dict[str, Any] = {n.name: n.kind for n in open_model(STALE).graph.norms}
    monkeypatch.setattr(OnnxPiece, "run", wrongly)
    result = _run(tmp_path / "out.onnx")
    assert not result.check.agrees and result.output is None


def test_a_batch_that_is_not_checked_is_damaged_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the few batches would miss: the activations of another one, which carry a sum of theirs."""
    _run(tmp_path / "right.onnx", cache_memory=0)
    outside = next(i for i in range(3, 32) if i not in checked_batches(32))
    take = ActivationCache.take

    def damaged(self: ActivationCache, batch: int) -> Any:
        file = self._folder / f"activations-{batch}"
        if batch == outside:
            content = bytearray(file.read_bytes())
            content[len(content) // 2 + 3] ^= 0x40
            file.write_bytes(content)
        return take(self, batch)

    monkeypatch.setattr(ActivationCache, "take", damaged)
    result = _run(tmp_path / "out.onnx", cache_memory=0)
    assert result.ok and result.cost.recomputed_batches > 0
    right, found = stored(tmp_path / "right.onnx"), stored(tmp_path / "out.onnx")
    for name, statistics in right.items():
        np.testing.assert_allclose(found[name], statistics, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 16, 33, 500])
def test_which_batches_are_checked(count: int) -> None:
    chosen = checked_batches(count)
    assert {0, count - 1} <= chosen <= set(range(count))
    assert len(chosen) <= max(2, count / 16 + 1)


def test_the_check_keeps_to_the_memory_that_is_given(tmp_path: Path) -> None:
    """A batch is checked in parts where its activations would not fit, with the same outcome."""
    assert proof_batch_size(16, 1e6) == 16 and proof_batch_size(16, 1e9) == 1
    assert proof_batch_size(16, 1e6, 8 << 20) == 2 and proof_batch_size(16, 1e6, 0) == 1
    result = _run(tmp_path / "out.onnx", cache_memory=1 << 16)
    assert result.check.agrees and result.check.variance_error < 1e-5
