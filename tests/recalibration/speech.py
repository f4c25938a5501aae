"""A small conformer with padding masks, and which of its frames count."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MELS, WIDTH = 6, 8


class Convolution(nn.Module):
    """The convolution module of a conformer: pointwise, gated, depthwise, BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.pointwise = nn.Conv1d(WIDTH, 2 * WIDTH, 1, bias=False)
        self.depthwise = nn.Conv1d(WIDTH, WIDTH, 5, padding=2, groups=WIDTH, bias=False)
        self.batch_norm = nn.BatchNorm1d(WIDTH)
        self.last = nn.Conv1d(WIDTH, WIDTH, 1, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.norm(x)
        if mask is not None:
            x = x * mask.unsqueeze(-1)
        y = nn.functional.glu(self.pointwise(x.transpose(1, 2)), dim=1)
        found: Tensor = self.last(nn.functional.silu(self.batch_norm(self.depthwise(y))))
        return found.transpose(1, 2)


class Conformer(nn.Module):
    """All arguments have defaults, as in the networks of Hugging Face."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.project = nn.Linear(MELS, WIDTH)
        self.layers = nn.ModuleList([Convolution(), Convolution()])
        self.attention = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 5)

    def forward(
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> Any:
        assert input_features is not None
        x = self.project(input_features)
        mask = None if attention_mask is None else attention_mask.to(x.dtype)
        for layer in self.layers:
            x = x + layer(x, mask)
            scores = self.attention(x) @ x.transpose(1, 2)
            if mask is not None:
                scores = scores + (1 - mask[:, None, :]) * -1e4
            x = x + scores.softmax(-1) @ x
        return self.head(x)


def batches(*, ragged: bool, extra: bool = True) -> list[dict[str, Any]]:
    """Dict batches as a collator makes them, the last of one sample; noise where it is padded."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for number, size in enumerate((3, 4, 1)):
        longest = 16 + 5 * number if ragged else 20
        lengths = torch.randint(4, longest - 3, (size,), generator=generator)
        lengths[0] = longest
        mask = (torch.arange(longest) < lengths[:, None]).long()
        noise = torch.randn(size, longest, MELS, generator=generator)
        features = torch.where(mask[:, :, None] == 1, noise * 2 + 1, noise * 7 - 5)
        batch: dict[str, Any] = {"input_features": features, "attention_mask": mask}
        if extra:
            batch |= {"labels": torch.zeros(size), "texts": ["a"] * size}
        found.append(batch)
    return found


def call(module: nn.Module, batch: dict[str, Any]) -> Any:
    return module(batch["input_features"], batch["attention_mask"])


def frames_that_count(batch: dict[str, Any], reaching: Tensor) -> Tensor:
    found: Tensor = reaching.transpose(1, 2)[batch["attention_mask"].bool()]
    return found
