"""Cases of the other kinds: PyTorch files as models, and data samples of every kind."""

from __future__ import annotations

import random
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from robustness.cases import Verdict, empty, judged
from robustness.mutate_bytes import damaged
from robustness.worker import Worker
from situations.build import Net

_ROWS, _SIZE = 8, 6


def run_other_case(number: int, seed: int, place: Path, worker: Worker) -> Verdict:
    """Damages one of the files, runs a command that reads it, and judges."""
    rng = random.Random(f"{seed}:other:{number}")
    empty(place)
    for name, data in originals().items():
        (place / name).write_bytes(data)
    name = rng.choice(sorted(set(originals()) - {"model.onnx"}))
    (place / name).write_bytes(damaged(originals()[name], rng))
    return judged(number, rng.choice(_commands(name)), place / "model.onnx", worker)


def _commands(name: str) -> list[tuple[str, ...]]:
    if name.startswith("net"):
        end = ".pt2" if name.endswith(".pt2") else ".pth"
        return [
            ("inspect", name),
            ("inspect", name, "--format", "json"),
            ("fold", name, "-o", "out/out" + end),
        ]
    if name.endswith(".png"):
        return [("inspect", "model.onnx", "--data", name)]
    return [
        ("inspect", "model.onnx", "--data", name),
        ("recalibrate", "model.onnx", "--data", name, "-o", "out/out.onnx"),
        ("fold", "model.onnx", "--data", name, "-o", "out/out.onnx"),
    ]


@cache
def originals() -> dict[str, bytes]:
    """Whole files by name."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        _write_model(place)
        _write_data(place)
        _write_torch(place)
        return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def _write_model(place: Path) -> None:
    net = Net()
    model = net.model(net.relu(net.bn(net.conv(net.input("N", 3, _SIZE, _SIZE), 3, 4), 4)))
    (place / "model.onnx").write_bytes(model.SerializeToString())


def _write_data(place: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(_ROWS, 3, _SIZE, _SIZE)).astype(np.float32)
    np.save(place / "d.npy", x)
    np.savez(place / "d.npz", x=x)
    np.savez_compressed(place / "packed.npz", x=x)
    rows = "\n".join(",".join(f"{n:.3f}" for n in row.reshape(-1)) for row in x)
    names = ",".join(f"c{i}" for i in range(x[0].size))
    (place / "d.csv").write_text(f"{names}\n{rows}\n", encoding="utf-8")
    _write_image(place / "d.png", rng)


def _write_image(path: Path, rng: Any) -> None:
    from PIL import Image

    Image.fromarray(rng.integers(0, 255, (_SIZE, _SIZE, 3), dtype=np.uint8)).save(path)


def _write_torch(place: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from torch import nn

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    x = torch.randn(_ROWS, 3, _SIZE, _SIZE)
    torch.save(net.state_dict(), place / "net.pth")
    torch.save(net.state_dict(), place / "net_old.pth", _use_new_zipfile_serialization=False)
    torch.save({"x": x}, place / "d.pt")
    save_file(net.state_dict(), place / "net.safetensors")
    save_file({"x": x}, place / "d.safetensors")
    torch.export.save(torch.export.export(net, (x,)), place / "net.pt2")
