"""How far stored statistics lie from what the deployed network meets, beside `update_bn`.

    python -m benchmarks statistics

The truth is the same module in float64 with hooks on it, layer by layer, without any code of bnfold
(`tests/recalibration/truth.py`). Means are off by so many standard deviations, variances by so many
per cent, each in the worst channel of the worst layer. `update_bn` cannot call a network with a
dict; a wrapper does that for it.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

import bnfold
from benchmarks.tables import Cell, Table
from tests.recalibration import images, speech
from tests.recalibration.truth import (
    Call,
    Counted,
    Running,
    distance,
    every_value,
    running,
    true_statistics,
)

HEADS = ("", "before, σ", "before, %", "bnfold, σ", "bnfold, %", "update_bn, σ", "update_bn, %")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace) -> list[Table]:
    table = Table("statistics: distance from the deployed network's", HEADS)
    speech_data = speech.batches(ragged=False, extra=False)
    table.add(
        "conformer, padding masks, dict batches of 3, 4, 1",
        *row(speech.Conformer(), speech_data, by_name, speech.frames_that_count, "attention_mask"),
    )
    sizes = [6, 5, 1]
    table.add("ResNet, dict batches of 6, 5, 1", *row(images.ResNet(), images.dict_batches(sizes)))
    for head, name in ((False, "SyncBatchNorm"), (True, "SyncBatchNorm, one after a linear layer")):
        cells = row(images.Synchronised(head), images.pictures(sizes), by_position)
        table.add(f"{name}, batches of 6, 5, 1", *cells)
    return [table]


def by_name(module: nn.Module, batch: Any) -> Any:
    return module(**batch)


def by_position(module: nn.Module, batch: Any) -> Any:
    return module(batch)


def row(
    module: nn.Module,
    batches: Sequence[Any],
    call: Call = by_name,
    counted: Counted = every_value,
    mask: str | tuple[()] = (),
) -> list[Cell]:
    wanted = true_statistics(module, batches, call, counted)
    found: list[Running | str] = [
        running(module),
        running(bnfold.recalibrate(module, batches, mask=mask).model),
        updated(module, batches, call),
    ]
    return [cell for each in found for cell in _cells(each, wanted)]


def _cells(found: Running | str, wanted: Running) -> list[Cell]:
    if isinstance(found, str):
        return [found, ""]
    means, variances = distance(found, wanted)
    return [means, 100 * variances]


class Called(nn.Module):
    """A copy of a module that takes a whole batch as its one argument."""

    def __init__(self, module: nn.Module, call: Call) -> None:
        super().__init__()
        self.inner, self._call = copy.deepcopy(module), call

    def forward(self, batch: Any) -> Any:
        return self._call(self.inner, batch)


def updated(module: nn.Module, batches: Sequence[Any], call: Call) -> Running | str:
    """What `update_bn` makes of it, or that it raises."""
    torch.manual_seed(0)  # dropout is on in it
    wrapped = Called(module, call)
    try:
        update_bn(batches, wrapped)
    except ValueError as error:
        return f"raises {type(error).__name__}"
    return running(wrapped.inner)
