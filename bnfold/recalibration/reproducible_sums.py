"""Sums of moments that are the same, to the last bit, for any number of processes.

Floating-point sums depend on their order. So the moments of batch ``i`` go into slot ``i mod 120``,
a process owns whole slots, and the slots are merged in their order at the end. As each slot is zero
on all processes but one, their all-reduce is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.algebra.moments import Moments, SampleMoments

SLOTS = 120  # divides evenly among 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 24, 30, 40, 60 processes


def own_batches(count: int, rank: int, size: int) -> list[int]:
    """The batches out of ``count`` that process ``rank`` of ``size`` works on."""
    return [i for i in range(count) if (i % SLOTS) % size == rank]


@dataclass(frozen=True, eq=False)
class Measured:
    """The moments of the whole sample, and of every other sample of it."""

    whole: Moments
    half: Moments


class Slots:
    """The moments of one layer, by slot and by the parity of the sample."""

    def __init__(self, batches: int, channels: int) -> None:
        self.channels = channels
        self._count = min(SLOTS, batches)
        self._slots: dict[tuple[int, int], Moments] = {}

    def add(self, batch: int, moments: SampleMoments) -> Moments:
        """Adds the samples of one batch, and returns them as one population."""
        first = batch * len(moments.mean) % 2  # so that batches of one sample alternate as well
        whole = Moments.empty(self.channels)
        for parity in (0, 1):
            key = batch % SLOTS, parity
            before = self._slots.get(key, Moments.empty(self.channels))
            half = moments[(parity + first) % 2 :: 2].pooled()
            self._slots[key] = before.merge(half)
            whole = whole.merge(half)
        return whole

    def packed(self) -> Array:
        """Shape ``(slots, 2, 1 + 2 C)``, float64: count, mean and m2; zero where nothing was added."""
        packed = np.zeros((self._count, 2, 1 + 2 * self.channels))
        for key, moments in self._slots.items():
            packed[key] = np.concatenate([[moments.count], moments.mean, moments.m2])
        return packed


def measured(packed: Array) -> Measured:
    """What `Slots.packed`, summed over all processes, amounts to."""
    channels = (packed.shape[2] - 1) // 2
    halves = [
        Moments.merged(
            (Moments(int(v[0]), v[1 : 1 + channels], v[1 + channels :]) for v in packed[:, parity]),
            channels,
        )
        for parity in (0, 1)
    ]
    return Measured(halves[0].merge(halves[1]), halves[0])
