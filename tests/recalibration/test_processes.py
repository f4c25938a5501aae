"""Several processes give the same numbers as one."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnfold.algebra.moments import sample_moments
from bnfold.errors import DataError
from bnfold.formats import open_model
from bnfold.jobs.recalibrate import recalibrate
from bnfold.jobs.recalibration_result import RecalibrationOptions
from bnfold.recalibration.observer import RuntimeOptions
from bnfold.recalibration.reproducible_sums import SLOTS, Measured, Slots, measured, own_batches

from .networks import SAMPLES, digits

STALE = SAMPLES / "residual_stale_statistics.onnx"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 120])
@pytest.mark.parametrize("count", [1, 5, 250])
def test_every_batch_belongs_to_one_process(count: int, size: int) -> None:
    shares = [own_batches(count, rank, size) for rank in range(size)]
    assert sorted(i for share in shares for i in share) == list(range(count))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_reduction_is_exact_to_the_last_bit(size: int) -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(5, 3, (int(rng.integers(1, 6)), 4, 9)) for _ in range(SLOTS + 30)]

    def reduced(processes: int) -> Measured:
        packed = []
        for rank in range(processes):
            slots = Slots(len(batches), 4)
            for index in own_batches(len(batches), rank, processes):
                slots.add(index, sample_moments(batches[index]))
            packed.append(slots.packed())
        return measured(np.sum(packed, axis=0))

    one, several = reduced(1), reduced(size)
    assert one.whole.count == several.whole.count == 9 * sum(map(len, batches))
    assert (one.whole.mean == several.whole.mean).all()
    assert (one.whole.m2 == several.whole.m2).all()
    whole = np.concatenate(batches)
    np.testing.assert_allclose(one.whole.variance(), whole.var(axis=(0, 2)), rtol=1e-12)


def _process(rank: int, size: int, port: int, folder: Path, results: Any) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    options = RecalibrationOptions(batch_size=16, runtime=RuntimeOptions(threads=1))
    try:
        result = recalibrate(
            open_model(STALE), folder / f"{size}.onnx", folder / "x.npy", options=options
        )
        results.put((rank, None if result is None else "wrote"))
    except DataError as error:
        results.put((rank, str(error)))
    except BaseException as error:  # or the parent would wait for ever
        results.put((rank, repr(error)))
        raise


def _launch(size: int, folder: Path) -> dict[int, str | None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results: Any = context.SimpleQueue()
    started = [
        context.Process(target=_process, args=(rank, size, port, folder, results))
        for rank in range(size)
    ]
    for process in started:
        process.start()
    found = dict(results.get() for _ in started)
    for process in started:
        process.join(30)
        assert process.exitcode == 0
    return found


def test_one_two_and_three_processes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    np.save(tmp_path / "x.npy", digits(113))
    options = RecalibrationOptions(batch_size=16, runtime=RuntimeOptions(threads=1))
    recalibrate(open_model(STALE), tmp_path / "1.onnx", tmp_path / "x.npy", options=options)
    for size in (2, 3):
        assert _launch(size, tmp_path) == {0: "wrote", **dict.fromkeys(range(1, size))}
    written = [(tmp_path / f"{size}.onnx").read_bytes() for size in (1, 2, 3)]
    assert len(set(written)) == 1


def test_all_processes_hear_of_bad_data(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    images = digits(64)
    images[20] = np.nan  # in batch 2, which belongs to process 1
    np.save(tmp_path / "x.npy", images)
    found = _launch(2, tmp_path)
    assert set(found) == {0, 1} and all(
        m is not None and "sample 20 of" in m for m in found.values()
    )
    assert not (tmp_path / "2.onnx").exists()
