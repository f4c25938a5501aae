"""The channels of every layer as compact data, from which the page draws a layer when one asks for it.

Five charts for each of five hundred layers, drawn beforehand, are 6 MB and 60,000 elements. What is
drawn on demand needs the numbers alone: four characters each, and no more channels than can be seen.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from bnfold.algebra.affine import Array

# How many numbers a page holds, four characters each, and how many channels a layer has at least.
_BUDGET, _LEAST = 150_000, 12
# A layer with findings may have as many channels as so many calm ones.
_WEIGHT = 6


@dataclass(frozen=True)
class Channels:
    """One layer: ``stored`` and ``seen`` are rows of the same channels, in the order that the page knows.

    ``stored``: mean, variance, then scale and shift where they are known. ``seen``: mean and
    variance, then three percentiles where they were taken; empty without data.
    """

    stored: Sequence[Array]
    seen: Sequence[Array] = ()
    epsilon: float | None = None
    troubled: bool = False

    @property
    def count(self) -> int:
        return int(self.stored[0].size)

    @property
    def rows(self) -> int:
        return len(self.stored) + len(self.seen)


def as_script(layers: Sequence[Channels]) -> Markup:
    """All layers as JSON that no browser takes for anything else."""
    total = sum(layer.rows * (_WEIGHT if layer.troubled else 1) for layer in layers)
    share = _BUDGET / max(1, total)
    found = [_entry(e, int(share * (_WEIGHT if e.troubled else 1))) for e in layers]
    return Markup(json.dumps(found, separators=(",", ":")).replace("<", "\\u003c"))


def _entry(layer: Channels, most: int) -> dict[str, Any]:
    picked = picked_channels(layer, max(_LEAST, most))
    rows = np.stack([np.asarray(row, np.float64)[picked] for row in (*layer.stored, *layer.seen)])
    entry = {"n": layer.count, "s": len(layer.stored), "o": len(layer.seen), "a": packed(rows)}
    if layer.epsilon is not None:
        entry["e"] = layer.epsilon
    if picked.size < layer.count:
        entry["c"] = picked.tolist()
    return entry


def picked_channels(layer: Channels, most: int) -> NDArray[np.intp]:
    """Channels evenly spread from the smallest stored variance to the largest, and the worst strays."""
    if layer.count <= most:
        return np.arange(layer.count)
    with np.errstate(all="ignore"):
        order = np.argsort(np.nan_to_num(layer.stored[1]), kind="stable")
        away = np.abs(layer.seen[0] - layer.stored[0]) if layer.seen else np.abs(layer.stored[0])
        away = np.nan_to_num(away / np.sqrt(np.abs(layer.stored[1]) + (layer.epsilon or 0.0)))
    broken = np.flatnonzero(~np.all([np.isfinite(row) for row in layer.stored], axis=0))
    strays = [*broken, *np.argsort(-away, kind="stable")][: most // 4]
    spread = order[np.linspace(0, order.size - 1, most - len(strays)).astype(np.intp)]
    return np.unique(np.concatenate([spread, np.asarray(strays, np.intp)]))


def packed(values: Array) -> str:
    """Each number as the upper three bytes of its float32: four to five digits in four characters."""
    with np.errstate(over="ignore", invalid="ignore"):
        bits = (
            np.where(np.isnan(values), np.nan, values).astype(">f4").view(">u4").astype(np.uint64)
        )
    upper = np.minimum((bits + 0x80) >> 8, 0xFFFFFF).astype(">u4")
    return base64.b64encode(upper.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()).decode()
