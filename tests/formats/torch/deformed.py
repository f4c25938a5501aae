"""A stand-in for torchvision's ``deform_conv2d``, of its name and schema, where that is not installed."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS = "stride_h stride_w pad_h pad_w dilation_h dilation_w groups offset_groups".split()
_SCHEMA = (
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
    + ", ".join(f"SymInt {name}" for name in _STEPS)
    + ", bool use_mask) -> Tensor"
)


def deformed(
    x: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, bias: Tensor, *more: Any
) -> Tensor:
    """A kernel with stride 1, one group of offsets, and padding that keeps the size."""
    pad, groups, use_mask = more[2], more[6], more[8]
    n, channels, height, width = x.shape
    taps = weight.shape[2] * weight.shape[3]
    shift = offset.reshape(n, taps, 2, height, width)
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=x.dtype), torch.arange(width, dtype=x.dtype), indexing="ij"
    )
    read = []
    for tap in range(taps):
        down, right = divmod(tap, weight.shape[3])
        y = rows + down - pad + shift[:, tap, 0]
        z = columns + right - pad + shift[:, tap, 1]
        grid = torch.stack([2 * z / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
        found = F.grid_sample(x, grid, padding_mode="zeros", align_corners=True)
        read.append(found * mask[:, tap : tap + 1] if use_mask else found)
    columns_read = torch.stack(read, 2).reshape(n, groups, channels // groups * taps, -1)
    kernel = weight.reshape(groups, weight.shape[0] // groups, -1)
    product = kernel @ columns_read
    return product.reshape(n, -1, height, width) + bias.reshape(1, -1, 1, 1)


def _define() -> None:
    make: Any = torch.library.Library
    library: Any = make("torchvision", "FRAGMENT")
    library.define(_SCHEMA)
    library.impl("deform_conv2d", deformed, "CPU")
    library.impl(
        "deform_conv2d", lambda x, w, *_: x.new_empty(x.shape[0], w.shape[0], *x.shape[2:]), "Meta"
    )
    _KEPT.append(library)


_KEPT: list[Any] = []
try:
    import torchvision.ops  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
except ImportError:
    _define()


class DeformConv2d(nn.Module):
    """As in torchvision: the operator called with the parameters of a layer."""

    def __init__(self, channels: int, groups: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, channels // groups, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.groups = groups

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        bias = torch.zeros_like(self.weight[:, 0, 0, 0]) if self.bias is None else self.bias
        given = torch.zeros((x.shape[0], 1)) if mask is None else mask
        settings = (1, 1, 1, 1, 1, 1, self.groups, 1, mask is not None)
        result: Tensor = torch.ops.torchvision.deform_conv2d(
            x, self.weight, offset, given.to(x.dtype), bias, *settings
        )
        return result
