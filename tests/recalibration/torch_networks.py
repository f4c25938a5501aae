"""A network with what makes recalibration hard: a shared layer, a skip, sizes asked for at run time."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """Three normalised layers; one is called on two branches, and Dropout stands in between."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()
        )
        self.left = nn.Conv2d(6, 6, 3, padding=1)
        self.right = nn.Conv2d(6, 6, 1)
        self.twice = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(6 * 64, 10)
        self.last = nn.BatchNorm1d(10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (N, 10)."""
        x = self.stem(x)
        y = self.twice(self.left(x)).relu() + self.twice(self.right(x)) + x
        y = self.dropout(y).reshape(x.size(0), -1)
        scores: Tensor = self.last(self.fc(y))
        return scores
