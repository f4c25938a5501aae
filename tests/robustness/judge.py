"""What a run of the command line may not do, whatever the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[Any]
_CODES = (0, 1, 2, 130)
_TYPES = {
    "tensor(float)": "f4",
    "tensor(double)": "f8",
    "tensor(float16)": "f2",
    "tensor(int64)": "i8",
    "tensor(int32)": "i4",
    "tensor(bool)": "?",
}


@dataclass(frozen=True)
class Run:
    """One run: how it ended, what it said, and the folder that its output was to come into."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str
    folder: Path


def faults(run: Run, source: Path) -> list[str]:
    """What is wrong with a run on ``source``; empty where all is well."""
    found = []
    if run.code not in _CODES:
        found.append(f"exit code {run.code}")
    if "Traceback (most recent call last)" in run.err + run.out:
        found.append("traceback")
    if "unexpected error" in run.err:
        found.append(f"unexpected: {run.err.strip().splitlines()[-1]}")
    elif run.code == 2 and not run.err.strip():
        found.append("exit code 2 without a word")
    if "json" in run.arguments and run.code in (0, 1) and not _is_json(run.out):
        found.append("no JSON")
    return found + _output_faults(run, source)


def _is_json(text: str) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def _output_faults(run: Run, source: Path) -> list[str]:
    left = sorted(path.name for path in run.folder.iterdir())
    strange = left if run.code else [name for name in left if not name.startswith("out.")]
    if strange:
        return [f"left behind: {strange}"]
    target = run.folder / "out.onnx"
    if not target.exists():
        return []
    return _differences(source, target, run)


def _differences(source: Path, target: Path, run: Run) -> list[str]:
    try:
        before = session(source)
    except Exception:  # onnxruntime's exceptions share no public base class
        return []
    try:
        after = session(target)
    except Exception as error:
        return [f"the output does not load: {str(error)[:200]}"]
    if run.arguments[0] != "fold":
        return []
    return _compared(before, after)


def _compared(before: ort.InferenceSession, after: ort.InferenceSession) -> list[str]:
    """Roughly: a wrong fold is wrong by more than rounding."""
    feeds = generated(before)
    if feeds is None:
        return []
    try:
        expected, again = before.run(None, feeds), before.run(None, feeds)
    except Exception:
        return []
    try:
        found = after.run(None, feeds)
    except Exception as error:
        return [f"the output does not run: {str(error)[:200]}"]
    for spec, a, same, b in zip(before.get_outputs(), expected, again, found, strict=True):
        steady = _agree(np.asarray(a), np.asarray(same))  # no dropout that drops, for one
        if steady and not _agree(np.asarray(a), np.asarray(b)):
            return [f"output {spec.name!r} differs"]
    return []


def _agree(a: Array, b: Array) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f":
        return True  # discrete: one rounding error moves it by a whole step
    if a.dtype == np.float16:
        return True
    finite = np.isfinite(a)
    if not finite.any():
        return True
    scale = np.abs(a[finite]).max()
    return bool(
        np.abs(np.where(finite, a, 0) - np.where(finite, b, 0)).max() <= 1e-3 * scale + 1e-30
    )


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def generated(before: ort.InferenceSession) -> dict[str, Array] | None:
    """Inputs for a session; None where they are no small tensors of numbers."""
    rng = np.random.default_rng(7)
    feeds = {}
    for spec in before.get_inputs():
        dtype = _TYPES.get(spec.type)
        shape = [
            n if isinstance(n, int) else (2 if i == 0 else 64) for i, n in enumerate(spec.shape)
        ]
        if dtype is None or any(n < 0 for n in shape) or np.prod(shape, dtype=float) > 1e6:
            return None
        numbers = rng.standard_normal(shape)
        feeds[spec.name] = (
            (numbers > 0).astype(dtype) if dtype[0] in "i?" else numbers.astype(dtype)
        )
    return feeds


def runs(path: Path) -> bool:
    """Whether onnxruntime loads and runs the model on inputs made from its signature."""
    try:
        loaded = session(path)
        feeds = generated(loaded)
        return feeds is not None and bool(loaded.run(None, feeds))
    except Exception:
        return False
