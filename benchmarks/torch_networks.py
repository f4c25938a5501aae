"""The torchvision and timm architectures that have BatchNorm, and how one is built for measuring.

Weights are random; statistics are measured on noise and then perturbed, so that activations stay of
order one and no fold is trivially the identity.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from typing import Any

LARGEST = 50_000_000
PER_FAMILY = 2
PIXELS = 65536
# Detectors and optical flow take other inputs than one batch; quantisable variants are the same nets.
LEFT_OUT = ("quantization", "detection", "optical_flow")


def chosen() -> list[str]:
    """The smallest two members of every family with BatchNorm, of those with at most 50 M parameters.

    A family is what one source file defines under names of the same letters, up to the first digit.
    Members of the same parameter and BN count are taken for the same network. The smallest of a
    file is in the list whatever its size.
    """
    import torch

    warnings.simplefilter("ignore")
    families: dict[tuple[str, str], dict[tuple[int, int], str]] = {}
    smallest: dict[str, tuple[int, str]] = {}
    for name, home in listed():
        try:
            with torch.device("meta"):
                module = made(name)
        except NotImplementedError:  # its constructor computes with tensors
            module = made(name)
        norms = len(batch_norms(module))
        if not norms:
            continue
        size = sum(p.numel() for p in module.parameters())
        smallest[home] = min(smallest.get(home, (size, name)), (size, name))
        letters = re.match(r"\D*", name.partition("/")[2])
        assert letters
        if size <= LARGEST:
            families.setdefault((home, letters[0]), {}).setdefault((size, norms), name)
    members = [m[k] for m in families.values() for k in sorted(m)[:PER_FAMILY]]
    return sorted({*members, *(name for _, name in smallest.values())})


def listed() -> Iterator[tuple[str, str]]:
    """Every architecture as library/name, and the source file that defines it."""
    import timm
    from timm.models import model_entrypoint
    from torchvision import models

    for name in models.list_models():
        home = models.get_model_builder(name).__module__
        if not any(word in home for word in LEFT_OUT):
            yield f"torchvision/{name}", home
    for name in timm.list_models():
        yield f"timm/{name}", model_entrypoint(name).__module__


def made(name: str) -> Any:
    library, _, rest = name.partition("/")
    if library == "timm":
        import timm

        return timm.create_model(rest)
    from torchvision import models

    extra: dict[str, Any] = {}
    if "segmentation" in models.get_model_builder(rest).__module__:
        extra = {"weights_backbone": None}
    if rest in ("googlenet", "inception_v3"):
        extra = {"init_weights": False}
    return models.get_model(rest, weights=None, **extra)


def built(name: str) -> tuple[Any, Any]:
    """A calibrated module in float64 and eval mode, and an input of the smallest size it takes."""
    import torch

    failure: Exception | None = None
    torch.manual_seed(1)
    for shape in shapes(made(name)):
        module = made(name)
        try:
            calibrate(module, shape)
        except Exception as error:  # this size is too small for this network
            failure = error
            continue
        return module.double().eval(), torch.randn(shape, dtype=torch.float64)
    assert failure is not None
    raise failure


def shapes(module: Any) -> list[tuple[int, ...]]:
    """Small sizes first, then the one that the network was made for."""
    if "torchvision.models.video" in type(module).__module__:
        return [(2, 3, 8, 64, 64), (2, 3, 16, 224, 224)]
    own = getattr(module, "pretrained_cfg", None) or {}
    *_, size = own.get("input_size", (3, 224, 224))
    sizes = [size] if own.get("fixed_input_size") else [64, 96, 128, size]
    return [(2, 3, n, n) for n in dict.fromkeys(sizes)]


def calibrate(module: Any, shape: tuple[int, ...]) -> None:
    """Puts statistics of order one into every BN, then perturbs them.

    They are measured on many pixels: those of a few would not hold for other inputs, the outputs
    would grow by orders of magnitude, and the rounding errors with them.
    """
    import torch

    samples = max(shape[0], PIXELS // math.prod(shape[2:]))
    norms = batch_norms(module)
    with torch.no_grad():
        for norm in norms:
            if norm.affine:
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(0, 0.2)
            norm.reset_running_stats()
            norm.momentum = None
        module.eval()
        for norm in norms:
            norm.train()
        module(torch.randn(samples, *shape[1:]))
        module.eval()
        for norm in norms:
            deviation = (norm.running_var + norm.eps).sqrt()
            norm.momentum = 0.1
            norm.running_mean.add_(0.1 * deviation * torch.randn_like(deviation))
            norm.running_var.mul_(torch.empty_like(deviation).uniform_(0.8, 1.25)).add_(1e-4)


def batch_norms(module: Any) -> list[Any]:
    import torch

    return [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
