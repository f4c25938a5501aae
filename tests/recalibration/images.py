"""Two networks for images: one that is called as those of Hugging Face, one with SyncBatchNorm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CLASSES, WIDTH = 5, 8


@dataclass
class Output:
    """What a network returns, as `transformers.utils.ModelOutput` does: fields, some of them None."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


torch.export.register_dataclass(Output)


class Block(nn.Module):
    """A basic block; its first convolution halves the image where ``stride`` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.second(self.norm1(self.first(x)).relu()))
        return torch.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network that takes a dict's entries by name and returns an `Output`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedder = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()
        )
        self.stages = nn.ModuleList([Block(WIDTH, WIDTH, 1), Block(WIDTH, 2 * WIDTH, 2)])
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(2 * WIDTH, CLASSES)

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> Output:
        states = [self.embedder(pixel_values)]
        for stage in self.stages:
            states.append(self.dropout(stage(states[-1])))
        logits = self.classifier(states[-1].mean((2, 3)))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return Output(loss, logits, tuple(states) if output_hidden_states else None)


class Synchronised(nn.Module):
    """SyncBatchNorm behind convolutions and, with ``head``, behind a linear layer as well."""

    def __init__(self, head: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        plain = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, 2, groups=2), nn.BatchNorm2d(WIDTH), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, CLASSES),
            nn.BatchNorm1d(CLASSES) if head else nn.Identity(),
        )  # fmt: skip
        converter: Any = nn.SyncBatchNorm
        self.layers = converter.convert_sync_batchnorm(plain)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layers(x)
        return scores


def pictures(sizes: Sequence[int], size: int = 12) -> list[Tensor]:
    """Batches of so many images each; brightness and contrast differ from batch to batch."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(n, 3, size, size, generator=generator) * (1 + 0.5 * i) + 0.7 * i
        for i, n in enumerate(sizes)
    ]


def dict_batches(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """As a collator of Hugging Face makes them."""
    return [{"pixel_values": x, "labels": torch.arange(len(x)) % CLASSES} for x in pictures(sizes)]
