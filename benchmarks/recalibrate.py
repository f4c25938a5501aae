"""What recalibration costs, in forward passes of the same model in the same engine.

    python -m benchmarks recalibrate MODEL.onnx ... [--samples 128] [--batch-size 16]

The unit is one plain pass over the same batches in onnxruntime with its graph optimisations off, in
CPU seconds of the process, threads included.
Other work on the machine moves single timings by more than what is measured here, so each row is
paired: plain pass, row, plain pass, in one process that is warm already; ``passes`` is the median of
the row over the mean of its two neighbours, with the smallest and the largest beside it. The row
"plain pass" against itself shows how far to trust the rest. ``peak`` is what a process of its own
holds at most beyond what it holds before. Data is random.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.tables import Table
from bnfold.data import open_sample
from bnfold.formats.onnx import OnnxModel
from bnfold.formats.onnx.run.observer import OnnxObserver
from bnfold.jobs.recalibrate import recalibrate
from bnfold.jobs.recalibration_result import RecalibrationOptions
from bnfold.recalibration.batch import batch_statistics
from bnfold.recalibration.batches import Batches
from bnfold.recalibration.cache import ActivationCache
from bnfold.recalibration.levels import plan_levels
from bnfold.recalibration.observer import RuntimeOptions
from bnfold.recalibration.output_change import output_names
from bnfold.recalibration.population import population_statistics
from bnfold.recalibration.processes import OneProcess
from bnfold.recalibration.run import Run
from bnfold.recalibration.selection import select

ROWS = {
    "forward": ("one plain pass", None),
    "population": ("population, all in memory", 1 << 40),
    "population-disk": ("population, all on disk", 0),
    "batch": ("batch", None),
    "job": ("the whole command (with the check)", None),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224, help="for dynamic axes")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> list[Table]:
    if options.child:
        row, data = options.child
        print(json.dumps(measure(row, options.models[0], Path(data), options)))
        raise SystemExit
    return [report(path, options) for path in options.models]


def report(path: Path, options: argparse.Namespace) -> Table:
    """The table of one model; rounds are interleaved, so that a slow minute hits all rows."""
    title = f"{path.stem}, {options.samples} samples, batches of {options.batch_size}"
    table = Table(
        f"recalibrate: {title}",
        ("", "CPU s", "passes", "smallest", "largest", "peak MB"),
    )
    with tempfile.TemporaryDirectory() as folder:
        data = random_data(OnnxModel(path), Path(folder), options)
        found: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
        for _ in range(options.rounds):
            for row in ROWS:
                found[row].append(child(f"time:{row}", path, data))
        for row, (name, _) in ROWS.items():
            ratios = [f["ratio"] for f in found[row]]
            numbers = (statistics.median(ratios), min(ratios), max(ratios))
            seconds = statistics.median(f["seconds"] for f in found[row])
            peak = child(f"memory:{row}", path, data)["peak"] / 1e6
            table.add(name, seconds, *numbers, round(peak))
    return table


def child(row: str, path: Path, data: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks", *sys.argv[1:], "--child", row, str(data)]
    models = {a for a in sys.argv[1:] if Path(a).is_file()} - {str(path)}
    command = [a for a in command if a not in models]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(run.stdout)
    return result


def random_data(model: OnnxModel, folder: Path, options: argparse.Namespace) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for spec in model.inputs:
        shape = [n or options.size for n in (spec.shape or ())[1:]]
        arrays[spec.name] = rng.normal(size=(options.samples, *shape)).astype(spec.dtype)
    if len(arrays) == 1:  # mapped, so that the data does not count as memory
        np.save(folder / "data.npy", next(iter(arrays.values())))
        return folder / "data.npy"
    np.savez(folder / "data.npz", **arrays)  # type: ignore[arg-type]
    return folder / "data.npz"


def measure(what: str, path: Path, data: Path, options: argparse.Namespace) -> dict[str, float]:
    """``time:ROW``: its seconds, alone and in passes. ``memory:ROW``: its peak in bytes."""
    kind, row = what.split(":")
    with tempfile.TemporaryDirectory() as folder:
        work = prepared(row, path, data, Path(folder), options)
        if kind == "memory":
            before = peak_memory()
            work()
            return {"peak": peak_memory() - before}
        plain = prepared("forward", path, data, Path(folder), options)
        plain()  # warm: code loaded, memory touched, data in the page cache
        first, seconds, second = timed(plain), timed(work), timed(plain)
        return {"seconds": seconds, "ratio": 2 * seconds / (first + second)}


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def prepared(
    row: str, path: Path, data: Path, folder: Path, options: argparse.Namespace
) -> Callable[[], object]:
    model = OnnxModel(path)
    sample = open_sample(data, model.inputs)
    batches = Batches(sample, options.batch_size)
    observer = OnnxObserver(model, folder, RuntimeOptions(threads=options.threads))
    if row == "forward":
        types = {spec.name: spec.dtype for spec in model.inputs if spec.dtype is not None}

        def forward() -> None:
            piece = observer.piece(types, output_names(observer), ())
            for index in range(len(batches)):
                piece.run(batches[index].feeds, {})

        return forward
    if row == "job":
        threads = RuntimeOptions(threads=options.threads)
        wanted = RecalibrationOptions(batch_size=options.batch_size, runtime=threads)
        return lambda: recalibrate(model, folder / "out.onnx", data, options=wanted)
    plan = plan_levels(observer.graph, select(observer, str(path)).populations)
    cache = ActivationCache(folder, ROWS[row][1])
    run = Run(observer, plan, batches, OneProcess(), cache)
    method = batch_statistics if row == "batch" else population_statistics
    return lambda: method(run)


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
