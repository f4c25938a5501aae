"""The sample in batches, padded where the model has a fixed batch dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.moments import SampleMoments, sample_moments
from bnfold.data import Sample
from bnfold.errors import DataError


@dataclass(frozen=True, eq=False)
class Batch:
    """Feeds for one run. Only the first ``valid`` of ``size`` rows are samples; the rest is padding."""

    index: int
    feeds: dict[str, NDArray[Any]]
    valid: int
    size: int

    def moments(self, values: NDArray[Any], axis: int, layer: str) -> SampleMoments:
        """The moments of what reaches ``layer``, padding left out.

        Raises:
            DataError: where padded rows cannot be told apart any more.
        """
        moments = sample_moments(values, axis)
        if self.valid == self.size:
            return moments
        rows = len(moments.mean)
        if rows % self.size:
            raise DataError(
                f"the {rows} rows that reach {layer} cannot be told apart by sample, so that the "
                f"last batch of {self.valid} cannot be filled up to the model's batch size of "
                f"{self.size}; choose --samples as a multiple of {self.size}"
            )
        return moments[: rows // self.size * self.valid]


class Batches:
    """Random access to the batches of a sample."""

    def __init__(self, sample: Sample, size: int) -> None:
        """Prepares it.

        Args:
            sample: what to cut up.
            size: samples to a batch, overruled by a fixed batch dimension of the model.
        """
        self.fixed = sample.per_run
        self.size = self.fixed or size
        self.samples = sample.count
        self._sample = sample

    def __len__(self) -> int:
        return -(-self.samples // self.size)

    def samples_in(self, index: int) -> int:
        return min(self.size, self.samples - index * self.size)

    def __getitem__(self, index: int) -> Batch:
        valid = self.samples_in(index)
        start = index * self.size
        feeds = self._sample.read(start, start + valid)
        missing = self.size - valid if self.fixed else 0
        if missing:  # real rows, as made-up ones might divide by zero
            feeds = {k: np.concatenate([a, a[-1:].repeat(missing, 0)]) for k, a in feeds.items()}
        return Batch(index, feeds, valid, valid + missing)
