"""Rows that come one after the other, noted down in files so that they can be read again.

Batches may differ in shape, as sequences do that are padded to the longest of their own batch. Rows
of one shape that follow each other make a group, and can be read together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data.arrays import wanted_arrays
from bnfold.data.signature import InputSpec
from bnfold.data.source import Arrays, Indices, named
from bnfold.data.temporary import temporary_folder
from bnfold.errors import DataError

Shapes = dict[str, tuple[int, ...]]


@dataclass(eq=False)
class _Group:
    """Rows of one shape: where they start, how many they are, and where their elements lie."""

    start: int
    count: int
    shapes: Shapes
    offsets: dict[str, int]


class SpooledRows:
    """What was noted down, mapped from temporary files."""

    def __init__(
        self, folder: Path, types: dict[str, np.dtype[Any]], groups: Sequence[_Group]
    ) -> None:
        self._files = {name: folder / str(number) for number, name in enumerate(types)}
        self._types, self._groups = types, groups
        self.count = sum(group.count for group in groups)
        self.left_out: tuple[str, ...] = ()
        self.surplus = 0
        counts = [group.count for group in groups]
        numbers = np.repeat(np.arange(len(groups), dtype=np.int64), counts)
        self.groups: Indices | None = numbers if len(groups) > 1 else None

    def read(self, indices: Indices) -> Arrays:
        """See `Source`; all rows have to be of one group."""
        first = 0 if self.groups is None or not len(indices) else int(self.groups[indices[0]])
        group = self._groups[first]
        return {
            name: np.asarray(self._mapped(name, group)[indices - group.start])
            for name in self._types
        }

    def _mapped(self, name: str, group: _Group) -> NDArray[Any]:
        shape = (group.count, *group.shapes[name])
        if 0 in shape:
            return np.zeros(shape, self._types[name])
        return np.memmap(
            self._files[name], self._types[name], "r", group.offsets[name], shape=shape
        )


def spooled(
    batches: Iterable[Arrays], inputs: Sequence[InputSpec], limit: int | None, where: str
) -> SpooledRows:
    """All batches together.

    Args:
        batches: batches or single samples, by input name.
        inputs: the model's.
        limit: how many samples to take, None for all.
        where: how messages name the source.

    Raises:
        DataError: where a batch has no input's name, or other names or ranks than the first.
    """
    with ExitStack() as stack:
        spool = _Spool(where, stack)
        for batch in batches:
            rows = named(wanted_arrays(batch, inputs), inputs, where)
            spool.append(rows, None if limit is None else limit - spool.count)
            if limit is not None and spool.count >= limit:
                break
    return SpooledRows(spool.folder, spool.types, spool.groups)


class _Spool:
    def __init__(self, where: str, stack: ExitStack) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=temporary_folder()))
        self.types: dict[str, np.dtype[Any]] = {}
        self.groups: list[_Group] = []
        self.count = 0
        self._where, self._stack = where, stack
        self._files: dict[str, IO[bytes]] = {}

    def append(self, rows: Arrays, room: int | None) -> None:
        counts = {len(a) if a.ndim else 0 for a in rows.values()}
        if len(counts) != 1:
            found = ", ".join(f"{len(a) if a.ndim else 0} of {n}" for n, a in rows.items())
            raise DataError(
                f"{self._where} yields batches of {found}; give the same number of samples for each"
            )
        self._open(rows)
        taken = counts.pop()
        taken = taken if room is None else min(taken, room)
        group = self._group({name: array.shape[1:] for name, array in rows.items()})
        for name, array in rows.items():
            elements = np.ascontiguousarray(array[:taken], self.types[name])
            self._files[name].write(elements.tobytes())
        group.count += taken
        self.count += taken

    def _open(self, rows: Arrays) -> None:
        if not self._files:
            for number, (name, array) in enumerate(rows.items()):
                self.types[name] = array.dtype
                file = (self.folder / str(number)).open("wb")
                self._files[name] = self._stack.enter_context(file)
        if rows.keys() != self._files.keys():
            raise DataError(
                f"{self._where} yields {', '.join(self._files)} first and {', '.join(rows)} later; "
                "give the same names with every batch"
            )

    def _group(self, shapes: Shapes) -> _Group:
        """The group that rows of these shapes belong to: the last one, or a new one."""
        if not self.groups or self.groups[-1].shapes != shapes:
            self._refuse_other_ranks(shapes)
            offsets = {name: file.tell() for name, file in self._files.items()}
            self.groups.append(_Group(self.count, 0, shapes, offsets))
        return self.groups[-1]

    def _refuse_other_ranks(self, shapes: Shapes) -> None:
        for name, shape in self.groups[0].shapes.items() if self.groups else ():
            if len(shape) != len(shapes[name]):
                raise DataError(
                    f"{self._where} yields {name} with shapes {list(shape)} and "
                    f"{list(shapes[name])}; bring all samples to one size"
                )
