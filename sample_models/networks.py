"""Small digit classifiers, one for each way in which BatchNorm layers are placed.

Every network takes images of shape (N, 1, 8, 8) and returns ten scores per image. Each step is a
named submodule, because the ONNX exporter names its nodes after the submodules.
"""

from __future__ import annotations

from torch import Tensor, nn

CLASSES = 10
PIXELS = 64


class ConvNorm(nn.Module):
    """A convolution followed by BatchNorm, with the padding that keeps the size at stride 1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised feature map."""
        y: Tensor = self.bn(self.conv(x))
        return y


class Head(nn.Module):
    """Global average pool and linear classifier."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes."""
        scores: Tensor = self.fc(self.flatten(self.pool(x)))
        return scores


class ResidualBlock(nn.Module):
    """conv-BN-ReLU-conv-BN plus a skip, which is a 1x1 conv-BN where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride)
        self.relu = nn.ReLU()
        self.second = ConvNorm(outputs, outputs, 3)
        same_shape = inputs == outputs and stride == 1
        self.downsample = None if same_shape else ConvNorm(inputs, outputs, 1, stride)
        self.out = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Rectified sum of the branch and the skip."""
        skip = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.out(self.second(self.relu(self.first(x))) + skip)
        return y


class ResidualNet(nn.Module):
    """Stem and three residual blocks; every BN stands behind a convolution of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 16, 3)
        self.relu = nn.ReLU()
        self.block1 = ResidualBlock(16, 16)
        self.block2 = ResidualBlock(16, 32, stride=2)
        self.block3 = ResidualBlock(32, 32)
        self.head = Head(32)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the classes."""
        x = self.relu(self.stem(image))
        scores: Tensor = self.head(self.block3(self.block2(self.block1(x))))
        return scores


class SigmoidLayer(nn.Module):
    """A fully-connected sigmoid layer with BN before or after the sigmoid."""

    def __init__(self, inputs: int, units: int, bn_first: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, units)
        self.bn = nn.BatchNorm1d(units)
        self.sigmoid = nn.Sigmoid()
        self.bn_first = bn_first

    def forward(self, x: Tensor) -> Tensor:
        """Activations of the layer."""
        y: Tensor = self.fc(x)
        y = self.sigmoid(self.bn(y)) if self.bn_first else self.bn(self.sigmoid(y))
        return y


class SigmoidMlp(nn.Module):
    """Three layers of 100 sigmoid units: Ioffe & Szegedy, ICML 2015, section 4.1."""

    def __init__(self, bn_first: bool, units: int = 100) -> None:
        super().__init__()
        self.flatten = nn.Flatten(1)
        self.layer1 = SigmoidLayer(PIXELS, units, bn_first)
        self.layer2 = SigmoidLayer(units, units, bn_first)
        self.layer3 = SigmoidLayer(units, units, bn_first)
        self.output = nn.Linear(units, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the classes."""
        x = self.layer2(self.layer1(self.flatten(image)))
        scores: Tensor = self.output(self.layer3(x))
        return scores


class PreactBlock(nn.Module):
    """BN-ReLU-conv twice plus a skip.

    Without a change of shape the skip reads the same tensor as the first BN. With one it is a
    projection of the activated tensor.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        same_shape = inputs == outputs and stride == 1
        self.project = None if same_shape else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Sum of the branch and the skip, not rectified."""
        active = self.relu1(self.bn1(x))
        skip = x if self.project is None else self.project(active)
        y: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(active)))) + skip
        return y


class PreactNet(nn.Module):
    """Pre-activation residual network, whose first BN of each block has no place to fold to."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.block1 = PreactBlock(16, 16)
        self.block2 = PreactBlock(16, 32, stride=2)
        self.block3 = PreactBlock(32, 32)
        self.bn = nn.BatchNorm2d(32)
        self.relu = nn.ReLU()
        self.head = Head(32)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the classes."""
        x = self.block3(self.block2(self.block1(self.stem(image))))
        scores: Tensor = self.head(self.relu(self.bn(x)))
        return scores


class RepVggBlock(nn.Module):
    """3x3 conv-BN, 1x1 conv-BN and, where the shape allows it, an identity BN, summed."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.dense = ConvNorm(inputs, outputs, 3, stride)
        self.pointwise = ConvNorm(inputs, outputs, 1, stride)
        same_shape = inputs == outputs and stride == 1
        self.identity = nn.BatchNorm2d(outputs) if same_shape else None
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Rectified sum of the branches."""
        y: Tensor = self.dense(x) + self.pointwise(x)
        if self.identity is not None:
            y = y + self.identity(x)
        y = self.relu(y)
        return y


class RepVggNet(nn.Module):
    """RepVGG-style network in its multi-branch training form."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = RepVggBlock(1, 16)
        self.block2 = RepVggBlock(16, 16)
        self.block3 = RepVggBlock(16, 32, stride=2)
        self.block4 = RepVggBlock(32, 32)
        self.head = Head(32)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the classes."""
        x = self.block4(self.block3(self.block2(self.block1(image))))
        scores: Tensor = self.head(x)
        return scores


class UpsampleNorm(nn.Module):
    """A transposed convolution that doubles the size, followed by BN and ReLU."""

    def __init__(self, inputs: int, outputs: int, groups: int = 1) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, groups=groups)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Feature map of twice the height and width."""
        y: Tensor = self.relu(self.bn(self.deconv(x)))
        return y


class TransposedNet(nn.Module):
    """Encoder to 2x2, decoder back to 8x8, classifier on the decoded map.

    The grouped layer has different numbers of channels in and out, so that a mix-up of the two
    axes of its weight cannot go unnoticed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down1 = ConvNorm(1, 16, 3, stride=2)
        self.relu1 = nn.ReLU()
        self.down2 = ConvNorm(16, 32, 3, stride=2)
        self.relu2 = nn.ReLU()
        self.up1 = UpsampleNorm(32, 16)
        self.up2 = UpsampleNorm(16, 24, groups=4)
        self.head = Head(24)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the classes."""
        x = self.relu2(self.down2(self.relu1(self.down1(image))))
        scores: Tensor = self.head(self.up2(self.up1(x)))
        return scores
