"""The networks and the digits that `adaptation.py` works with, and how they are trained.

`Plain` and `WithDropout` are also what bnfold is given to make the modules.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

TEST, CALIBRATION = 450, 512
BATCH, EPOCHS, LATE_EPOCHS, RATE = 64, 15, 10, 3e-3


class Plain(nn.Module):
    """Three convolutions and a hidden layer, a BatchNorm behind each: (N, 1, 8, 8) to 10 scores."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, o in ((1, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
            layers += [nn.MaxPool2d(2)] if i > 1 else []
        layers += [nn.Flatten(1), nn.Linear(128, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(*layers, nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layers(x)
        return scores


class WithDropout(Plain):
    """The same with dropout behind every activation."""

    def __init__(self) -> None:
        super().__init__(0.3)


@dataclass(frozen=True, eq=False)
class Images:
    """Shape (N, 1, 8, 8), values in [0, 1], and their digits."""

    image: Tensor
    label: Tensor

    def take(self, index: slice | Tensor) -> Images:
        return Images(self.image[index], self.label[index])

    @property
    def by_class(self) -> Images:
        return self.take(torch.argsort(self.label, stable=True))


def digits(seed: int) -> tuple[Images, Images]:
    """All training images, in a random order, and the held-out ones, which the seed leaves alone."""
    source = load_digits()
    order = np.random.default_rng(0).permutation(len(source.target))
    image = torch.from_numpy((source.images[order, None] / 16).astype(np.float32))
    whole = Images(image, torch.from_numpy(source.target[order].astype(np.int64)))
    drawn = torch.randperm(len(order) - TEST, generator=torch.Generator().manual_seed(seed))
    return whole.take(slice(TEST, None)).take(drawn), whole.take(slice(TEST))


def trained(network: type[Plain], data: Images, seed: int) -> tuple[nn.Module, nn.Module]:
    """A trained network, and the average (SWA) of its weights over later epochs.

    The average has the statistics that torch leaves it: those of the last of the averaged networks.
    """
    torch.manual_seed(seed)
    module = network()
    optimizer = torch.optim.AdamW(module.parameters(), RATE, weight_decay=1e-2)
    steps = EPOCHS * (len(data.label) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        epoch(module, optimizer, data, schedule)
    finished = copy.deepcopy(module).eval()
    for group in optimizer.param_groups:
        group["lr"] = RATE
    averaged = AveragedModel(module)
    for _ in range(LATE_EPOCHS):
        epoch(module, optimizer, data, None)
        averaged.update_parameters(module)
    return finished, averaged.module.eval()


def epoch(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Images,
    schedule: torch.optim.lr_scheduler.LRScheduler | None,
) -> None:
    module.train()
    count = len(data.label) // BATCH * BATCH
    for index in torch.randperm(len(data.label))[:count].reshape(-1, BATCH):
        optimizer.zero_grad()
        batch = data.take(index)
        nn.functional.cross_entropy(module(batch.image), batch.label).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()


def accuracy(module: nn.Module, data: Images) -> float:
    """In per cent, in eval mode."""
    with torch.no_grad():
        right = module.eval()(data.image).argmax(1) == data.label
    return 100 * float(right.float().mean())
