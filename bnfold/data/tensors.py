"""Tensors saved by torch: one, a dict by input name, or a tuple in the order of the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnfold.data.arrays import ArrayRows
from bnfold.data.items import Items
from bnfold.data.signature import InputSpec
from bnfold.data.source import SampleOptions
from bnfold.errors import DataError, MissingExtraError


def open_tensors(path: Path, inputs: Sequence[InputSpec], options: SampleOptions) -> ArrayRows:
    """Reads with ``weights_only=True``, which runs no code of the file; tensors are mapped.

    Raises:
        DataError: where the file holds anything but tensors.
        MissingExtraError: where torch is not installed.
    """
    try:
        import torch  # noqa: TID251  the one kind of data that needs it
    except ImportError:
        raise MissingExtraError("reading tensors saved by torch", "torch") from None
    loaded: Any = None
    try:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError):  # files of before torch 1.6 cannot be mapped
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} cannot be read as tensors ({reason}); save a tensor or a dict of tensors"
        ) from None
    items = Items(inputs, str(path))
    rows = ArrayRows(items.arrays(loaded), inputs, path)
    rows.left_out, rows.surplus = items.left_out, items.surplus
    return rows
