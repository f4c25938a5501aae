"""A small network in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.norm(self.conv(image)).relu()
        return found
