"""One case: a damaged file, a command, a verdict."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from robustness.judge import Run, faults
from robustness.mutate_onnx import mutated
from robustness.seeds import onnx_seed, sample_for
from robustness.worker import Worker

_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("inspect", "model.onnx"),
    ("inspect", "model.onnx", "--format", "json", "--verbose"),
    ("inspect", "model.onnx", "--format", "sarif"),
    ("inspect", "model.onnx", "--reparameterize", "--freeze-initializers"),
    ("inspect", "model.onnx", "--data", "sample.npz"),
    ("fold", "model.onnx", "-o", "out/out.onnx"),
    ("fold", "model.onnx", "-o", "out/out.onnx"),
    ("fold", "model.onnx", "-o", "out/out.onnx", "--no-verify"),
    ("fold", "model.onnx", "-o", "out/out.onnx", "--freeze-initializers", "--reparameterize"),
    ("fold", "model.onnx", "-o", "out/out.onnx", "--data", "sample.npz"),
    ("verify", "whole.onnx", "model.onnx"),
    ("verify", "model.onnx", "model.onnx"),
    ("recalibrate", "model.onnx", "--data", "sample.npz", "-o", "out/out.onnx"),
)


@dataclass(frozen=True)
class Verdict:
    """What came of one case; ``faults`` is empty where all is well."""

    number: int
    arguments: tuple[str, ...]
    code: int | str
    faults: tuple[str, ...]
    err: str


def run_onnx_case(number: int, seed: int, place: Path, worker: Worker) -> Verdict:
    """Damages a model, runs a command on it in the folder ``place``, and judges."""
    rng = random.Random(f"{seed}:{number}")
    empty(place)
    whole = onnx_seed(rng)
    (place / "whole.onnx").write_bytes(whole.SerializeToString())
    source = place / "model.onnx"
    source.write_bytes(mutated(whole, rng))
    (place / "m.onnx.data").write_bytes(bytes(range(256)) * 32)
    sample_for(whole, place / "sample.npz")
    return judged(number, rng.choice(_COMMANDS), source, worker)


def judged(number: int, arguments: tuple[str, ...], source: Path, worker: Worker) -> Verdict:
    """The command, run beside ``source``, whose output goes into ``out``."""
    place = source.parent
    before = sorted(p.name for p in place.iterdir())
    code, out, err = worker(arguments, place)
    if isinstance(code, str):
        return Verdict(number, arguments, code, (code,), err)
    found = faults(Run(arguments, code, out, err, place / "out"), source)
    new = sorted({p.name for p in place.iterdir()} - set(before))
    return Verdict(number, arguments, code, (*found, *(f"left {name}" for name in new)), err)


def empty(place: Path) -> None:
    """A folder with nothing in it but an empty one for outputs."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "out").mkdir(parents=True)
