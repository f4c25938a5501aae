"""Cached activations, so that each forward pass of recalibration starts where the last one stopped.

They are kept in memory, then on disk, then not at all. Where the passes meet, the *frontier*, is found
in `levels`.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.recalibration.observer import Arrays

# Of what is free at the start: the runtime needs memory too, and others need the machine.
_SHARE_OF_MEMORY, _SHARE_OF_DISK = 0.25, 0.5
_FALLBACK = 1 << 30


@dataclass(frozen=True)
class _OnDisk:
    file: Path
    entries: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]
    size: int
    checksum: int


class ActivationCache:
    """Keeps the arrays of each batch until they are taken, within two budgets of bytes."""

    def __init__(self, folder: Path, memory: int | None = None, disk: int | None = None) -> None:
        """A budget of None is a share of what is free now."""
        self._folder = folder
        self.memory = int(free_memory() * _SHARE_OF_MEMORY) if memory is None else memory
        free = shutil.disk_usage(folder).free
        self.disk = int(free * _SHARE_OF_DISK) if disk is None else disk
        self._held: dict[int, dict[str, NDArray[Any]] | _OnDisk] = {}
        self._in_memory = self._on_disk = 0
        self.peak_memory = self.peak_disk = self.not_kept = 0

    def put(self, batch: int, arrays: Arrays) -> bool:
        """Keeps the arrays of ``batch``; False where both budgets are spent."""
        if any(a.dtype.hasobject for a in arrays.values()):  # no tensors: sequences, say
            self.not_kept += 1
            return False
        size = sum(a.nbytes for a in arrays.values())
        if self._in_memory + size <= self.memory:
            self._held[batch] = dict(arrays)
            self._in_memory += size
            self.peak_memory = max(self.peak_memory, self._in_memory)
            return True
        if self._on_disk + size <= self.disk and self._write(batch, arrays, size):
            return True
        self.not_kept += 1
        return False

    def take(self, batch: int) -> dict[str, NDArray[Any]] | None:
        """The arrays of ``batch``, which are forgotten here; None where they were not kept."""
        held = self._held.pop(batch, None)
        if isinstance(held, _OnDisk):
            return self._read(held)
        if held is not None:
            self._in_memory -= sum(a.nbytes for a in held.values())
        return held

    def _write(self, batch: int, arrays: Mapping[str, NDArray[Any]], size: int) -> bool:
        file, checksum = self._folder / f"activations-{batch}", 0
        try:
            with file.open("wb") as target:
                for array in arrays.values():
                    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                    checksum = zlib.crc32(content, checksum)
                    target.write(content)
        except OSError:  # a full disk: this batch is recomputed
            file.unlink(missing_ok=True)
            return False
        entries = tuple((name, a.dtype, a.shape) for name, a in arrays.items())
        self._held[batch] = _OnDisk(file, entries, size, checksum)
        self._on_disk += size
        self.peak_disk = max(self.peak_disk, self._on_disk)
        return True

    def _read(self, held: _OnDisk) -> dict[str, NDArray[Any]] | None:
        """The arrays; None where they are not what was written, so that they are computed again."""
        arrays, checksum = {}, 0
        with held.file.open("rb") as source:
            for name, dtype, shape in held.entries:
                data = np.empty(int(np.prod(shape)) * dtype.itemsize, np.uint8)
                source.readinto(data.data)
                checksum = zlib.crc32(data.data, checksum)
                arrays[name] = data.view(dtype).reshape(shape)
        held.file.unlink()
        self._on_disk -= held.size
        if checksum != held.checksum:
            self.not_kept += 1
            return None
        return arrays


def free_memory() -> int:
    """The bytes that can be had without swapping, as far as the system tells."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return _FALLBACK
