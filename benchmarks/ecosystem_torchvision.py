"""torchvision beside a torch that its compiled operators do not fit (a wheel for CUDA, torch for the CPU)."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import torch
from torch import Tensor

_LIBRARIES: list[torch.library.Library] = []  # an operator lives as long as its library


def usable() -> None:
    """Imports torchvision; where its operators are missing, declares them and defines ``nms``."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # "operator torchvision::nms does not exist"
        _declare(Path(str(spec.origin)).parent / "_meta_registrations.py")
        boxes = importlib.import_module("torchvision.ops.boxes")
        boxes._assert_has_ops = _nothing  # type: ignore[attr-defined]


def _nothing() -> None:
    """In place of torchvision's own look for its operators."""


def _declare(registrations: Path) -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    names = re.findall(r'register_fake\("torchvision::(\w+)"\)', registrations.read_text())
    for name in set(names) - {"nms"}:
        library.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")
    _LIBRARIES.append(library)


def _nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """The indices of the boxes that no better one overlaps by more than ``threshold``, best first."""
    left = scores.argsort(descending=True)
    kept: list[Tensor] = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        low, high = (
            f(boxes[best, i : i + 2], boxes[left, i : i + 2])
            for f, i in ((torch.maximum, 0), (torch.minimum, 2))
        )
        shared = (high - low).clamp(min=0).prod(1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        left = left[shared <= threshold * (areas[best] + areas[left] - shared)]
    return torch.stack(kept) if kept else scores.new_zeros(0, dtype=torch.long)
