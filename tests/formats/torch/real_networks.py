"""Definitions of published networks, written from the shapes in their state dicts."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Block(nn.Module):
    """Two convolutions; the shortcut pads new channels with zeros (CIFAR, option A)."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        self.stride, self.more = stride, o - i

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.more:
            x = F.pad(
                x[:, :, :: self.stride, :: self.stride],
                (0, 0, 0, 0, self.more // 2, self.more // 2),
            )
        return F.relu(y + x)


class ResNet20(nn.Module):
    """He et al., 2015, the CIFAR variant with 19 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        stages = [
            nn.Sequential(_Block(i, o, s), _Block(o, o, 1), _Block(o, o, 1))
            for i, o, s in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        ]
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        result: Tensor = self.linear(F.avg_pool2d(x, x.size(3)).flatten(1))
        return result


class _Small(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        m = o // 4
        self.block = nn.Sequential(
            nn.Conv2d(i, m, 1), nn.ReLU(),
            nn.Conv2d(m, m, (3, 1), padding=(1, 0)), nn.ReLU(),
            nn.Conv2d(m, m, (1, 3), padding=(0, 1)), nn.ReLU(),
            nn.Conv2d(m, o, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.block(x)
        return result


class LPRNet(nn.Module):
    """Zherzdev and Gruzdev, 2018: plates of 24 x 94 pixels to 18 positions of 68 classes."""

    def __init__(self) -> None:
        super().__init__()

        def pool(stride: tuple[int, int, int]) -> nn.Module:
            return nn.MaxPool3d((1, 3, 3), stride)

        self.backbone = nn.Sequential(
            nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), pool((1, 1, 1)),
            _Small(64, 128), nn.BatchNorm2d(128), nn.ReLU(), pool((2, 1, 2)),
            _Small(64, 256), nn.BatchNorm2d(256), nn.ReLU(),
            _Small(256, 256), nn.BatchNorm2d(256), nn.ReLU(), pool((4, 1, 2)),
            nn.Dropout(0.5), nn.Conv2d(64, 256, (1, 4)), nn.BatchNorm2d(256), nn.ReLU(),
            nn.Dropout(0.5), nn.Conv2d(256, 68, (13, 1)), nn.BatchNorm2d(68), nn.ReLU(),
        )  # fmt: skip
        self.container = nn.Sequential(nn.Conv2d(516, 68, 1))

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for i, layer in enumerate(self.backbone):
            x = layer(x)
            if i in (2, 6, 13, 22):
                kept.append(x)
        scaled = []
        for i, each in enumerate(kept):
            if i < 2:
                each = F.avg_pool2d(each, 5, 5)
            elif i == 2:
                each = F.avg_pool2d(each, (4, 10), (4, 2))
            scaled.append(each / each.pow(2).mean())
        result: Tensor = self.container(torch.cat(scaled, 1)).mean(2)
        return result


class Crepe(nn.Module):
    """Kim et al., 2018, the tiny pitch tracker: convolution, activation, norm, pooling."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [1, 128, 16, 16, 16, 32, 64]
        for n, (i, o) in enumerate(itertools.pairwise(sizes), start=1):
            kernel, stride = ((512, 1), (4, 1)) if n == 1 else ((64, 1), (1, 1))
            setattr(self, f"conv{n}", nn.Conv2d(i, o, kernel, stride))
            setattr(self, f"conv{n}_BN", nn.BatchNorm2d(o, eps=0.001, momentum=0.0))
        self.classifier = nn.Linear(256, 360)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None, :, None]
        for n in range(1, 7):
            x = F.pad(x, (0, 0, 254, 254) if n == 1 else (0, 0, 31, 32))
            x = getattr(self, f"conv{n}_BN")(F.relu(getattr(self, f"conv{n}")(x)))
            x = F.max_pool2d(x, (2, 1), (2, 1))
        x = x.permute(0, 2, 1, 3).reshape(-1, 256)
        return torch.sigmoid(self.classifier(x))


def _conv_bn(i: int, o: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(True)
    )


def _separable_bn(i: int, o: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, i, 3, stride, 1, groups=i, bias=False), nn.BatchNorm2d(i), nn.ReLU(True),
        nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(True),
    )  # fmt: skip


def _separable(i: int, o: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, i, 3, stride, 1, groups=i), nn.ReLU(), nn.Conv2d(i, o, 1))


class _Basic(nn.Module):
    def __init__(self, i: int, o: int, k: int, dilation: int = 1, relu: bool = True) -> None:
        super().__init__()
        pad = dilation if k == 3 else 0
        self.conv = nn.Conv2d(i, o, k, padding=pad, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(o)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        return F.relu_(y) if self.relu else y


class _Fields(nn.Module):
    """Branches of growing receptive field, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.branch0 = nn.Sequential(
            _Basic(64, 8, 1, relu=False), _Basic(8, 16, 3), _Basic(16, 16, 3, 2, relu=False)
        )
        self.branch1 = nn.Sequential(
            _Basic(64, 8, 1, relu=False), _Basic(8, 16, 3), _Basic(16, 16, 3, 3, relu=False)
        )
        self.branch2 = nn.Sequential(
            _Basic(64, 8, 1, relu=False), _Basic(8, 12, 3), _Basic(12, 16, 3),
            _Basic(16, 16, 3, 5, relu=False),
        )  # fmt: skip
        self.ConvLinear = _Basic(48, 64, 1, relu=False)
        self.shortcut = _Basic(64, 64, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.branch0(x), self.branch1(x), self.branch2(x)], 1)
        return F.relu(self.ConvLinear(y) + self.shortcut(x))


class UltraFace(nn.Module):
    """The RFB-320 face detector: scores and raw boxes of 4,420 anchors for 240 x 320 pixels."""

    def __init__(self) -> None:
        super().__init__()
        steps = [(16, 32, 1), (32, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1)]
        late = [(64, 128, 2), (128, 128, 1), (128, 128, 1), (128, 256, 2), (256, 256, 1)]
        self.base_net = nn.Sequential(
            _conv_bn(3, 16, 2), *(_separable_bn(*s) for s in steps), _Fields(),
            *(_separable_bn(*s) for s in late),
        )  # fmt: skip
        self.extras = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(256, 64, 1), nn.ReLU(), _separable(64, 256, 2), nn.ReLU())]
        )
        anchors = [(64, 3), (128, 2), (256, 2)]
        self.classification_headers = nn.ModuleList(
            [*(_separable(c, 2 * n) for c, n in anchors), nn.Conv2d(256, 6, 3, padding=1)]
        )
        self.regression_headers = nn.ModuleList(
            [*(_separable(c, 4 * n) for c, n in anchors), nn.Conv2d(256, 12, 3, padding=1)]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores: list[Tensor] = []
        boxes: list[Tensor] = []
        start = 0
        for level, end in enumerate((8, 11, 13, None)):
            x = self.extras[0](x) if end is None else self.base_net[start:end](x)
            start = end or start
            for heads, found, width in (
                (self.classification_headers, scores, 2), (self.regression_headers, boxes, 4),
            ):  # fmt: skip
                y: Any = heads[level](x)
                found.append(y.permute(0, 2, 3, 1).contiguous().view(y.size(0), -1, width))
        return F.softmax(torch.cat(scores, 1), 2), torch.cat(boxes, 1)
