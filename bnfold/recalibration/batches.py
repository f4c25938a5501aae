"""The sample in batches, padded where the model has a fixed batch dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.moments import SampleMoments, counted_moments, sample_moments
from bnfold.data import Sample
from bnfold.data.masks import Flags, padded
from bnfold.errors import DataError
from bnfold.kinds import Norm

Measure = Callable[[NDArray[Any], int], SampleMoments]
"""The moments of each sample of an array whose channels lie along an axis."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Feeds for one run. Only the first ``valid`` of ``size`` rows are samples; the rest is padding.

    ``masks``: which frames of each sample count, see `data.masks`. ``measure``: how moments are taken.
    """

    index: int
    feeds: dict[str, NDArray[Any]]
    valid: int
    size: int
    masks: tuple[Flags, ...] = ()
    measure: Measure = sample_moments

    def moments(self, values: NDArray[Any], norm: Norm, layer: str) -> SampleMoments:
        """The moments of what reaches ``layer``, padding left out.

        Raises:
            DataError: where padded rows or frames cannot be told apart any more, or where other
                channels arrive than the layer has.
        """
        axis = norm.axis
        reaching = values.shape[axis] if -values.ndim <= axis < values.ndim else 1
        if reaching != norm.channels:
            raise DataError(
                f"{layer} has {norm.channels} channels, and {reaching} reach it with this data: no "
                "runtime would run it; export the model again"
            )
        counted = self.counted(values.shape, axis, layer)
        if counted is not None:
            return counted_moments(values, axis, counted)[: self.valid]
        moments = self.measure(values, axis)
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

    def counted(self, shape: tuple[int, ...], axis: int, layer: str) -> Flags | None:
        """Which values of a channel count: shape ``(size, values of a channel)``.

        None where all do: there is no mask, or what reaches ``layer`` has no frames any more.

        Raises:
            DataError: where the frames of the mask are not those that reach ``layer``.
        """
        axis %= len(shape)
        frames = tuple(n for a, n in enumerate(shape) if a not in (0, axis))
        if not self.masks or (shape[0] == self.size and axis and not frames):
            return None
        fitting = [f for f in self.masks if axis and len(f) == self.valid and _fits(f, frames)]
        if len(fitting) != 1 or shape[0] != self.size:
            raise DataError(_no_mask(shape, layer, self.masks, len(fitting)))
        flags = padded(fitting[0], self.size)
        if flags.shape[1:] != frames:
            place = [n == flags.shape[1] for n in frames]
            if sum(place) > 1:
                raise DataError(
                    f"what reaches {layer} has shape {list(shape)}, where several axes have as many "
                    f"entries as the mask, {flags.shape[1]}; give samples of another length, or a mask "
                    "over all of these axes"
                )
            sizes = (n if own else 1 for n, own in zip(frames, place, strict=True))
            flags = flags.reshape((self.size, *sizes))
        return np.broadcast_to(flags, (self.size, *frames)).reshape(self.size, -1)


def _fits(flags: Flags, frames: tuple[int, ...]) -> bool:
    own = flags.shape[1:]
    return own == frames or (len(own) == 1 and own[0] in frames)


def _no_mask(shape: Sequence[int], layer: str, masks: Sequence[Flags], fitting: int) -> str:
    sizes = " and ".join(str(list(flags.shape[1:])) for flags in masks)
    if fitting:
        return f"several masks ({sizes}) fit what reaches {layer}, {list(shape)}; name one of them"
    return (
        f"what reaches {layer} has shape {list(shape)} and no axis of frames as the mask has them "
        f"({sizes}); add a mask at that rate to the data and name it with --mask as well, or leave "
        "the layer out with --skip"
    )


_MOST_PADDING = 1 << 29


class Batches:
    """Random access to the batches of a sample."""

    def __init__(self, sample: Sample, size: int, measure: Measure = sample_moments) -> None:
        """Prepares it.

        Args:
            sample: what to cut up.
            size: samples to a batch, overruled by a fixed batch dimension of the model.
            measure: how the moments of what the batches give are taken.
        """
        self.fixed = sample.per_run
        self.size = self.fixed or size
        self.samples = sample.count
        self._sample, self._measure = sample, measure
        edges = [0, *sample.breaks, self.samples]
        parts = (range(a, b, self.size) for a, b in pairwise(edges))
        self._starts = [*chain.from_iterable(parts), self.samples]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def samples_in(self, index: int) -> int:
        return self._starts[index + 1] - self._starts[index]

    def shell(self, index: int) -> Batch:
        """What is known of a batch without reading its inputs."""
        start, valid = self._starts[index], self.samples_in(index)
        flags = self._sample.flags(start, start + valid)
        return Batch(index, {}, valid, self.fixed or valid, flags, self._measure)

    def _check_padding(self, size: int) -> None:
        """Raises `DataError` where filling up a batch would take more memory than all else."""
        if size > _MOST_PADDING:
            raise DataError(
                f"each run of the model takes {self.fixed:,} samples, and a batch of the data has far "
                "fewer; give more samples, or export the model with a batch axis of any size"
            )

    def __getitem__(self, index: int) -> Batch:
        shell = self.shell(index)
        start, valid = self._starts[index], shell.valid
        feeds = self._sample.read(start, start + valid)
        missing = self.size - valid if self.fixed else 0
        if missing:  # real rows, as made-up ones might divide by zero
            self._check_padding(missing * sum(a[:1].nbytes for a in feeds.values()))
            feeds = {k: np.concatenate([a, a[-1:].repeat(missing, 0)]) for k, a in feeds.items()}
        return replace(shell, feeds=feeds, size=valid + missing)
