"""Sharing recalibration among processes: the collective operations, and their stand-in for one process."""

from __future__ import annotations

import os
from typing import Protocol

from bnfold.algebra.affine import Array


class Processes(Protocol):
    """Processes that share the work, each with its ``rank`` out of ``size``."""

    rank: int
    size: int

    def sum(self, array: Array) -> Array:
        """The sum of every process's ``array`` (same shape, float64) on all of them."""

    def first(self, message: str | None) -> str | None:
        """The message of the lowest rank that has one, on all of them."""

    def close(self) -> None:
        """Ends the connection."""


class OneProcess:
    """The usual case."""

    rank, size = 0, 1

    def sum(self, array: Array) -> Array:
        return array

    def first(self, message: str | None) -> str | None:
        return message

    def close(self) -> None:
        return None


def are_several() -> bool:
    """Whether ``torchrun`` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def launched_processes() -> Processes:
    """The processes that ``torchrun`` started, this one among them; one where it did not.

    Raises:
        MissingExtraError: where torch is not installed.
    """
    if are_several():
        from bnfold.recalibration.distributed import TorchProcesses

        return TorchProcesses()
    return OneProcess()
