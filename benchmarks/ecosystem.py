"""Networks of many PyTorch libraries, random weights from their configuration: traced, folded, compared.

    python -m benchmarks.ecosystem [NAME ...] [--out table.md]

In an environment of its own: torch as bnfold is tested with, the libraries from PyPI with
``pip install --no-deps`` and whatever they then miss. A library that is not installed is named and
left out. Nothing is downloaded. Statistics and scales are random, so that a wrong fold shows.
``left`` is how many BatchNorm stay; the errors are the largest difference of any output over the
largest value, in float32 and, where the network can be made double, in float64. ``fx`` is what
``torch.fx.experimental.optimization.fuse`` leaves, or its error. Seconds are of the CPU.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import bnfold
from bnfold.errors import BnfoldError

Made = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
IMAGE = (2, 3, 64, 64)
_NORMS = (nn.modules.batchnorm._BatchNorm,)


def image(*shape: int) -> Tensor:
    return torch.randn(*(shape or IMAGE), generator=torch.Generator().manual_seed(0))


def _vision(module: str, name: str, *shape: int, **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        found = importlib.import_module(module)
        return getattr(found, name)(**options), (image(*shape),), {}

    return make


def _timm(name: str, *shape: int, **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        timm = importlib.import_module("timm")
        return timm.create_model(name, pretrained=False, **options), (image(*shape),), {}

    return make


def _hugging(config: str, model: str, *shape: int, **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        hf = importlib.import_module("transformers")
        network = getattr(hf, model)(getattr(hf, config)(**options))
        return network, (), {"pixel_values": image(*shape)}

    return make


def _yolo(name: str) -> Callable[[], Made]:
    def make() -> Made:
        tasks = importlib.import_module("ultralytics.nn.tasks")
        return tasks.DetectionModel(name, verbose=False), (image(),), {}

    return make


def _cv(name: str, *shape: int) -> Callable[[], Made]:
    def make() -> Made:
        provider = importlib.import_module("pytorchcv.model_provider")
        return provider.get_model(name, pretrained=False), (image(*shape),), {}

    return make


def _graph() -> Made:
    geometric = importlib.import_module("torch_geometric.nn")
    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    return geometric.GIN(8, 16, 2, norm="batch_norm"), (image(4, 8), edges), {}


def _segmentation(name: str) -> Callable[[], Made]:
    encoder = {"encoder_name": "resnet18", "encoder_weights": None}
    return _vision("segmentation_models_pytorch", name, **encoder)


_TV, _SIZE = "torchvision.models", {"weights": None}
NETWORKS: dict[str, Callable[[], Made]] = {
    **{
        f"torchvision {name}": _vision(_TV, name)
        for name in (
            "resnet18 mobilenet_v2 mobilenet_v3_small shufflenet_v2_x0_5 mnasnet0_5 squeezenet1_1 "
            "regnet_y_400mf efficientnet_b0 vgg11_bn densenet121 resnext50_32x4d"
        ).split()
    },
    "torchvision googlenet": _vision(_TV, "googlenet", init_weights=False, aux_logits=False),
    "torchvision r3d_18": _vision("torchvision.models.video", "r3d_18", 1, 3, 4, 32, 32),
    "torchvision lraspp": _vision(
        "torchvision.models.segmentation", "lraspp_mobilenet_v3_large", weights_backbone=None
    ),
    **{
        f"timm {name}": _timm(name)
        for name in (
            "resnet10t resnetv2_18 seresnet18 ghostnet_100 lcnet_050 tinynet_e mobilenetv4_conv_small "
            "repvgg_a0 repvit_m0_9 mobileone_s0 fastvit_t8 dla34 hardcorenas_a fbnetc_100 mixnet_s "
            "semnasnet_050 spnasnet_100 skresnet18 resnest14d darknet17 cs3darknet_s vovnet39a "
            "efficientvit_b0 xcit_nano_12_p16_224 hgnetv2_b0 starnet_s1"
        ).split()
    },
    "timm levit_128s": _timm("levit_128s", 2, 3, 224, 224),
    "timm convmixer_768_32": _timm("convmixer_768_32"),
    **{
        f"smp {name}": _segmentation(name)
        for name in "Unet UnetPlusPlus Linknet FPN PSPNet PAN DeepLabV3Plus MAnet".split()
    },
    "transformers ResNet": _hugging(
        "ResNetConfig", "ResNetForImageClassification", depths=[1, 1, 1, 1], embedding_size=16,
        hidden_sizes=[16, 32, 64, 64],
    ),
    "transformers RegNet": _hugging(
        "RegNetConfig", "RegNetForImageClassification", depths=[1, 1, 1, 1], embedding_size=16,
        hidden_sizes=[16, 32, 64, 64], groups_width=8,
    ),
    "transformers MobileNetV2": _hugging("MobileNetV2Config", "MobileNetV2ForImageClassification"),
    "transformers LeViT": _hugging(
        "LevitConfig", "LevitForImageClassification", 2, 3, 224, 224
    ),
    "ultralytics yolov8n": _yolo("yolov8n.yaml"),
    "ultralytics yolo11n": _yolo("yolo11n.yaml"),
    "monai UNet": _vision(
        "monai.networks.nets", "UNet", 1, 1, 16, 16, 16, spatial_dims=3, in_channels=1,
        out_channels=2, channels=(4, 8, 16), strides=(2, 2), norm="batch",
    ),
    "monai SegResNet": _vision(
        "monai.networks.nets", "SegResNet", 1, 1, 16, 16, 16, spatial_dims=3, init_filters=4,
        norm="batch",
    ),
    "monai DenseNet": _vision(
        "monai.networks.nets", "DenseNet", 2, 1, 64, 64, spatial_dims=2, in_channels=1,
        out_channels=2, block_config=(2, 2), init_features=8, growth_rate=8,
    ),
    "kornia HardNet": _vision("kornia.feature", "HardNet", 2, 1, 32, 32),
    "kornia KeyNet": _vision("kornia.feature", "KeyNet", 1, 1, 48, 48),
    "efficientnet-pytorch b0": lambda: (
        importlib.import_module("efficientnet_pytorch").EfficientNet.from_name("efficientnet-b0"),
        (image(),),
        {},
    ),
    "braindecode EEGNet": _vision(
        "braindecode.models", "EEGNet", 2, 8, 256, n_chans=8, n_outputs=2, n_times=256
    ),
    "braindecode ShallowFBCSPNet": _vision(
        "braindecode.models", "ShallowFBCSPNet", 2, 8, 256, n_chans=8, n_outputs=2, n_times=256
    ),
    "speechbrain ECAPA_TDNN": _vision(
        "speechbrain.lobes.models.ECAPA_TDNN", "ECAPA_TDNN", 2, 60, 40, input_size=40,
        channels=[32, 32, 32, 32, 96], attention_channels=16, lin_neurons=24,
    ),
    "speechbrain Xvector": _vision(
        "speechbrain.lobes.models.Xvector", "Xvector", 2, 60, 40, device="cpu", in_channels=40
    ),
    "open_clip ModifiedResNet": _vision(
        "open_clip.modified_resnet", "ModifiedResNet", 2, 3, 64, 64, layers=[1, 1, 1, 1],
        output_dim=32, heads=2, image_size=64, width=16,
    ),
    "PyG GIN": _graph,
    **{
        f"pytorchcv {name}": _cv(name)
        for name in "resnet10 preresnet10 mobilenet_wd4 shufflenet_g1_wd4 sqnxt23_w1 fdmobilenet_wd4".split()
    },
}  # fmt: skip


def randomise(network: nn.Module) -> None:
    """Statistics and scales far from those of a new layer."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, _NORMS)):
            for name, low, high in (
                ("running_mean", -0.5, 0.5),
                ("running_var", 0.5, 1.5),
                ("weight", 0.5, 1.5),
                ("bias", -0.5, 0.5),
            ):
                tensor = getattr(norm, name, None)
                if tensor is not None:
                    draw = torch.rand(tensor.shape, generator=generator)
                    tensor.copy_(low + (high - low) * draw)


def row(name: str) -> Iterator[str]:
    """The cells of one network."""
    try:
        network, args, kwargs = NETWORKS[name]()
    except Exception as error:  # a library that is not there, or has moved on
        yield f"not made: {type(error).__name__}: {str(error).splitlines()[0][:90]}"
        return
    network.eval()
    randomise(network)
    count = sum(isinstance(m, _NORMS) for m in network.modules())
    begin = time.process_time()
    try:
        found = bnfold.fold(network, args, kwargs=kwargs)
        folded = found.model
    except BnfoldError as error:
        yield f"{count} | | | | {fused(network, args, kwargs)} | {time.process_time() - begin:.0f} | {error}"
        return
    spent = time.process_time() - begin
    errors = [
        f"{difference(network, folded, args, kwargs, kind):.1e}"
        for kind in (torch.float32, torch.float64)
    ]
    reasons = sorted({d.reason.reason.name.lower() for d in found.plan.batch_norms if d.reason})
    left = f"{found.batch_norms_left}"
    cells = (count, left, *errors, fused(network, args, kwargs), f"{spent:.0f}", ", ".join(reasons))
    yield " | ".join(map(str, cells))


def difference(a: Any, b: Any, args: Any, kwargs: Any, dtype: torch.dtype) -> float:
    """The largest of any output over its largest value; NaN where the network is no such type."""

    def cast(leaf: Any) -> Any:
        floating = isinstance(leaf, Tensor) and leaf.is_floating_point()
        return leaf.to(dtype) if floating else leaf

    given, named = pytree.tree_map(cast, (args, kwargs))
    worst = 0.0
    try:
        with torch.no_grad():
            one, two = (copy.deepcopy(m).eval().to(dtype)(*given, **named) for m in (a, b))
    except Exception:  # a type that is written into the network's code
        return float("nan")
    for x, y in zip(pytree.tree_leaves(one), pytree.tree_leaves(two), strict=True):
        if isinstance(x, Tensor) and x.is_floating_point():
            worst = max(worst, float((x - y).abs().max() / x.abs().max().clamp_min(1e-30)))
    return worst


def fused(network: nn.Module, args: Any, kwargs: Any) -> str:
    """How many BatchNorm torch.fx leaves, or why it does not run."""
    fuse = importlib.import_module("torch.fx.experimental.optimization").fuse
    try:
        found = fuse(copy.deepcopy(network))
        left = sum(isinstance(m, _NORMS) for m in found.modules())
        error = difference(network, found, args, kwargs, torch.float32)
    except Exception as problem:  # whatever a tracer raises
        return type(problem).__name__
    return f"{left}" if error < 1e-3 else f"{left}, wrong by {error:.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of names; all by default")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with suppress(RuntimeError):  # where torchvision has no operators of its own for this torch
        importlib.import_module("torchvision")
    print("| network | BN | left | float32 | float64 | fx leaves | s | why |")
    print("|---|--:|--:|--:|--:|--:|--:|---|", flush=True)
    for name in NETWORKS:
        if not options.names or any(part in name for part in options.names):
            for cells in row(name):
                print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
