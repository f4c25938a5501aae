"""What a fold changes for who runs the model: latency, load, memory, size, nodes; int8 as well.

    python -m benchmarks latency [MODEL.onnx ...] [--rounds 15] [--reparameterize] [--torch]

Original and folded file on the same input, one thread, runs interleaved, medians of CPU seconds. *default*
is onnxruntime's default level, which folds a BatchNorm behind a convolution itself while it loads;
*off* is without graph optimisations, as backends without such rules run the model. Load and memory
are those of a process that does nothing else. int8 is onnxruntime's static quantisation (Q/DQ).
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

import bnfold
from benchmarks.processes import compare, python
from benchmarks.tables import Table

_SAMPLES = Path(__file__).parent.parent / "sample_models"
_DEFAULT = tuple(_SAMPLES / f"{name}.onnx" for name in ("residual", "preact", "mlp_bn_before"))
_LOAD = """
import sys
import onnxruntime as r
o = r.SessionOptions()
o.intra_op_num_threads = 1
r.InferenceSession(sys.argv[1], o, providers=["CPUExecutionProvider"])
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, default=224, help="for dynamic axes")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--reparameterize", action="store_true")
    parser.add_argument("--int8", action="store_true", help="quantise both files as well")
    parser.add_argument("--torch", action="store_true", help="a module run eagerly as well")


def run(options: argparse.Namespace) -> list[Table]:
    tables = [_of_file(path, options) for path in options.models or _DEFAULT]
    return [*tables, _of_module(options)] if options.torch else tables


def _of_file(path: Path, options: argparse.Namespace) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        files = {"original": path, "folded": Path(folder) / "folded.onnx"}
        keywords = {"reparameterize": True} if options.reparameterize else {}
        assert bnfold.fold(path, files["folded"], **keywords).ok
        feeds = _feeds(path, options)
        table = Table(f"latency: {path.stem}", ("", *files, "folded / original"))
        quick, off = (
            ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
            (ort.GraphOptimizationLevel.ORT_DISABLE_ALL),
        )
        for title, level in (("run, default level, ms", quick), ("run, off, ms", off)):
            works = {n: _runner(f, level, feeds) for n, f in files.items()}
            _add(table, title, [1e3 * s for s in _interleaved(works, options.rounds)])
        loads = compare({n: python(_LOAD, f) for n, f in files.items()}, 5)
        costs = [loads[n] for n in files]
        _add(table, "process that loads it, CPU s", [c.cpu for c in costs])  # type: ignore[union-attr]
        _add(table, "its peak, MB", [c.megabytes for c in costs])  # type: ignore[union-attr]
        _add(table, "file, MB", [f.stat().st_size / 1e6 for f in files.values()])
        _add(table, "nodes", [float(_nodes(f)) for f in files.values()])
        if options.int8:
            small = {
                n: _quantised(f, Path(folder) / f"{n}.int8.onnx", feeds) for n, f in files.items()
            }
            works = {n: _runner(f, quick, feeds) for n, f in small.items()}
            _add(table, "int8: run, ms", [1e3 * s for s in _interleaved(works, options.rounds)])
            _add(table, "int8: nodes", [float(_nodes(f)) for f in small.values()])
    return table


def _add(table: Table, title: str, values: list[float]) -> None:
    table.add(title, *values, values[1] / values[0])


def _feeds(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    feeds = {}
    for spec in bnfold.load(path).inputs:
        first, *rest = spec.shape or (1,)
        shape = (first or options.batch, *(n or options.size for n in rest))
        feeds[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
    return feeds


def _runner(path: Path, level: Any, feeds: dict[str, Any]) -> Callable[[], object]:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.graph_optimization_level = 1, level
    settings.log_severity_level = 4
    session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def _interleaved(works: dict[str, Callable[[], object]], rounds: int) -> list[float]:
    """The median CPU seconds of one call of each."""
    repeats = {}
    for name, work in works.items():
        work()
        start = time.perf_counter()
        work()
        repeats[name] = max(1, int(0.02 / (time.perf_counter() - start)))
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            for _ in range(repeats[name]):
                work()
            found[name].append((time.process_time() - start) / repeats[name])
    return [statistics.median(seconds) for seconds in found.values()]


class _Data(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: dict[str, Any]) -> None:
        self._left = [feeds]

    def get_next(self) -> Any:
        return self._left.pop() if self._left else None


def _quantised(path: Path, target: Path, feeds: dict[str, Any]) -> Path:
    logging.getLogger().setLevel(logging.ERROR)  # it recommends preparations that fold as well
    quantize_static(path, target, _Data(feeds), quant_format=QuantFormat.QDQ, per_channel=True)
    return target


def _nodes(path: Path) -> int:
    return len(onnx.load(path, load_external_data=False).graph.node)


def _of_module(options: argparse.Namespace) -> Table:
    """Eight convolutions with BatchNorm, eagerly: nothing folds them for the user there."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for before, after in zip((3, *[32] * 7), [32] * 8, strict=True):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    x = torch.randn(options.batch, 3, 56, 56)
    modules = {"original": nn.Sequential(*layers).eval()}
    modules["folded"] = bnfold.fold(modules["original"], (x,)).model
    torch.set_num_threads(1)
    table = Table("latency: eight convolutions in torch", ("", *modules, "folded / original"))

    def runner(module: Any) -> Callable[[], object]:
        def call() -> object:
            with torch.inference_mode():
                return module(x)

        return call

    works = {name: runner(module) for name, module in modules.items()}
    _add(table, "run, eager, ms", [1e3 * s for s in _interleaved(works, options.rounds)])
    return table
