"""How many channels of trained networks block the fold of BatchNorm in front of an activation.

    python -m benchmarks.trained [--epochs 20]

A pre-activation ResNet, a wide one and a ConvMixer are trained on scikit-learn's digits. Random weights
have positive scales; training decides which turn negative. The table counts what stays before and after
training, and the channels with a negative scale in the layers that stay.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import bnfold
from benchmarks.adaptation_networks import digits

BATCH = 64


class PreActivation(nn.Module):
    """BN, ReLU, convolution, twice, beside an identity; a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.a = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.b = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        same = inputs == outputs and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.second(self.a(self.first(x).relu())).relu())
        total: Tensor = y + self.skip(x)
        return total


def resnet(width: int) -> nn.Module:
    """Three stages of two blocks."""
    blocks: list[nn.Module] = [nn.Conv2d(1, width, 3, 1, 1, bias=False)]
    before = width
    for stage, stride in ((1, 1), (2, 2), (4, 2)):
        for i in range(2):
            blocks.append(PreActivation(before, stage * width, stride if i == 0 else 1))
            before = stage * width
    blocks += [nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*blocks, nn.Linear(before, 10))


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.inner(x) + x
        return total


def convmixer(width: int, depth: int, activation: type[nn.Module]) -> nn.Module:
    """Activation, then BatchNorm, as its authors have it."""

    def block() -> list[nn.Module]:
        mixing = nn.Conv2d(width, width, 3, groups=width, padding=1)
        apart = nn.Sequential(mixing, activation(), nn.BatchNorm2d(width))
        return [Residual(apart), nn.Conv2d(width, width, 1), activation(), nn.BatchNorm2d(width)]

    stem = [nn.Conv2d(1, width, 2, 2), activation(), nn.BatchNorm2d(width)]
    blocks = [layer for _ in range(depth) for layer in block()]
    return nn.Sequential(
        *stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)
    )


NETWORKS = {
    "pre-activation ResNet-14": lambda: resnet(16),
    "the same, four times as wide": lambda: resnet(64),
    "ConvMixer-64/6, GELU": lambda: convmixer(64, 6, nn.GELU),
    "ConvMixer-64/6, ReLU": lambda: convmixer(64, 6, nn.ReLU),
}


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    steps = epochs * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(epochs):
        for picked in torch.randperm(len(images))[: len(images) // BATCH * BATCH].split(BATCH):
            loss = nn.functional.cross_entropy(network(images[picked]), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def row(network: nn.Module, images: Tensor, labels: Tensor) -> Iterator[str]:
    """Accuracy, BatchNorm, what stays, why, and how many channels of what stays are negative."""
    with torch.no_grad():
        right = float((network(images).argmax(1) == labels).float().mean())
    found = bnfold.fold(network, (images[:4],))
    decisions = found.to_json()["decisions"]
    left = [d for d in decisions if d["action"] == "keep"]
    reasons = Counter(d["reason"]["code"] for d in left)
    modules = dict(network.named_modules())
    scales = torch.cat([modules[d["name"]].weight.detach() for d in left] or [torch.ones(0)])
    named = [m for d in left for m in re.findall(r"(\d+) of \d+ scales", d["reason"]["message"])]
    yield f"{right:.1%}"
    yield str(len(decisions))
    yield str(len(left))
    yield ", ".join(f"{n} {code}" for code, n in reasons.most_common())
    yield f"{int((scales < 0).sum())} of {len(scales)}"
    yield str(sum(map(int, named)))
    yield "yes" if found.ok else "NO"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs
    training, test = digits(0)
    print(
        "| network | accuracy | BN | left | why | negative scales in these | named as blocking | proved |"
    )
    print("|---|--:|--:|--:|---|--:|--:|---|")
    for name, build in NETWORKS.items():
        for trained in (False, True):
            torch.manual_seed(0)
            network = build()
            train(network, training.image, training.label, epochs if trained else 1)
            cells = " | ".join(row(network, test.image, test.label))
            print(f"| {name}, {'trained' if trained else 'one epoch'} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
