"""Rows that come one after the other, noted down in files so that they can be read again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data.arrays import wanted_arrays
from bnfold.data.signature import InputSpec
from bnfold.data.source import Arrays, named
from bnfold.data.temporary import temporary_folder
from bnfold.errors import DataError


def spooled(
    batches: Iterable[Arrays], inputs: Sequence[InputSpec], limit: int | None, where: str
) -> dict[str, NDArray[Any]]:
    """The arrays that all batches together make, mapped from temporary files.

    Args:
        batches: batches or single samples, by input name.
        inputs: the model's.
        limit: how many samples to take, None for all.
        where: how messages name the source.

    Raises:
        DataError: where a batch has another shape than the first, or no input's name.
    """
    folder = Path(tempfile.mkdtemp(dir=temporary_folder()))
    first: dict[str, NDArray[Any]] = {}
    count = 0
    with ExitStack() as stack:
        files: dict[str, IO[bytes]] = {}
        for batch in batches:
            rows = named(wanted_arrays(batch, inputs), inputs, where)
            for number, name in enumerate(rows if not first else ()):
                files[name] = stack.enter_context((folder / str(number)).open("wb"))
            first = first or rows
            count += _append(rows, files, first, None if limit is None else limit - count, where)
            if limit is not None and count >= limit:
                break
    if not count:
        return {spec.name: np.zeros(0, np.float32) for spec in inputs}
    return {
        name: np.memmap(folder / str(i), a.dtype, "r", shape=(count, *a.shape[1:]))
        for i, (name, a) in enumerate(first.items())
    }


def _append(
    rows: Arrays, files: dict[str, IO[bytes]], first: Arrays, room: int | None, where: str
) -> int:
    counts = {len(a) for a in rows.values()}
    if len(counts) != 1:
        raise DataError(f"{where} yields {sorted(counts)} samples for its inputs; give one number")
    for name, array in rows.items():
        if array.shape[1:] != first[name].shape[1:]:
            raise DataError(
                f"{where} yields {name} with shapes {list(first[name].shape[1:])} and "
                f"{list(array.shape[1:])}; bring all samples to one size"
            )
        files[name].write(np.ascontiguousarray(array[:room], first[name].dtype).tobytes())
    taken = counts.pop()
    return taken if room is None else min(taken, room)
