"""Tensors saved by torch: one, a dict by input name, or a tuple in the order of the inputs."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnfold.data.arrays import ArrayRows
from bnfold.data.items import Items
from bnfold.data.signature import InputSpec
from bnfold.data.source import SampleOptions
from bnfold.data.temporary import check_room, temporary_folder
from bnfold.errors import DataError, MissingExtraError
from bnfold.files import SourceFile, check_ratio


def open_tensors(path: Path, inputs: Sequence[InputSpec], options: SampleOptions) -> ArrayRows:
    """Reads with ``weights_only=True``, which runs no code of the file.

    Tensors are mapped, from a copy of their own: see `bnfold.files.source`.

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
        own = _copied(path, options)
        try:
            loaded = torch.load(own, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError):  # files of before torch 1.6 cannot be mapped
            loaded = torch.load(own, map_location="cpu", weights_only=True)
    except DataError:
        raise
    except Exception as error:  # torch raises whatever its unpickler meets
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} cannot be read as tensors ({reason}); save a tensor or a dict of tensors"
        ) from None
    items = Items(inputs, str(path))
    rows = ArrayRows(items.arrays(loaded), inputs, path)
    rows.left_out, rows.surplus = items.left_out, items.surplus
    return rows


def _copied(path: Path, options: SampleOptions) -> Path:
    """A copy that nobody else writes to."""
    _check_archive(path, options)
    source = SourceFile(path, DataError)
    check_room(source.size, path, limited=options.size_limit)
    with tempfile.NamedTemporaryFile(dir=temporary_folder(), suffix=".pt", delete=False) as target:
        for piece in source.pieces(0, source.size):
            target.write(piece)
    return Path(target.name)


def _check_archive(path: Path, options: SampleOptions) -> None:
    if options.size_limit and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                check_ratio(path, info, DataError, "add --no-size-limit if that is as it should be")
