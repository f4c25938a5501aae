"""Which outputs of a whole network differ, and which of them rounding alone moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bnfold.formats.torch.graph.trace import same_outputs

_ABOVE = 1e-3  # of an output's range, as the cap of a verification


def unlike(before: Sequence[Any], after: Sequence[Any]) -> set[int]:
    """Which outputs differ."""
    pairs = enumerate(zip(before, after, strict=True))
    return {i for i, (a, b) in pairs if not same_outputs([a], [b], _ABOVE)}


def rounded_elsewhere(network: nn.Module, draw: int) -> nn.Module:
    """``network`` itself, each parameter moved by up to one unit in the last place."""
    generator = torch.Generator().manual_seed(draw)
    with torch.no_grad():
        for tensor in network.parameters():
            if tensor.is_floating_point():
                ulp = torch.rand(tensor.shape, generator=generator).to(tensor) * 2 - 1
                tensor.mul_(1 + ulp * torch.finfo(tensor.dtype).eps)
    return network
