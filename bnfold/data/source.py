"""Samples of model inputs: where they come from, and whether they fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bnfold.data.masks import Flags, Mask, looks_like_a_mask
from bnfold.data.signature import (
    InputSpec,
    by_key,
    by_position,
    row_specs,
    samples_per_run,
    takes_whole_calls,
)
from bnfold.errors import DataError

Arrays = Mapping[str, NDArray[Any]]
Indices = NDArray[np.int64]
_WHOLE_CALL = "; as its inputs share no batch axis, each sample is all that one call takes"


class Source(Protocol):
    """One kind of data: rows by position, read when they are asked for.

    Arrays go by the name of an input; by the empty name where the source knows no names.
    ``left_out`` are names in the data that no input has; ``surplus`` is how many arrays without a
    name no input took. ``groups`` numbers the rows: those of one group have one shape and can be
    read together; None where all can.
    """

    count: int
    left_out: tuple[str, ...]
    surplus: int
    groups: Indices | None

    def read(self, indices: Indices) -> Arrays:
        """The rows at ``indices``, in that order.

        Raises:
            DataError: where they cannot be read.
        """


@dataclass(frozen=True)
class SampleOptions:
    """Which rows of the data are taken, and how images become tensors.

    ``samples`` None: all of them. Without ``shuffle`` the rows are spread evenly over the data,
    as files are often sorted by class; with it they are drawn at random by ``seed``.
    ``layout``: ``NCHW`` or ``NHWC``, None as the model's input suggests. ``mean`` and ``std``
    apply to colours between 0 and 1. ``mask`` names arrays of the data whose zeros mark frames
    that do not count; ``padding`` those whose other values do. ``size_limit``: refuse archives and
    images that unpack to far more than they hold, and more than half of the free disk.
    """

    samples: int | None = None
    shuffle: bool = False
    seed: int = 0
    image_size: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str | None = None
    color: str | None = None
    size_limit: bool = True
    mask: tuple[str, ...] = ()
    padding: tuple[str, ...] = ()

    @property
    def masks(self) -> tuple[Mask, ...]:
        return (*(Mask(n) for n in self.mask), *(Mask(n, padding=True) for n in self.padding))


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of a source that fit a model's inputs.

    ``per_run``: how many of them each run of the model takes, None where any number will do.
    ``keyed``: the data calls the inputs by their keys in a dict.
    """

    name: str
    source: Source
    inputs: tuple[InputSpec, ...]
    rows: Indices = field(repr=False)
    masks: tuple[Mask, ...] = ()
    keyed: bool = False

    @property
    def _called(self) -> tuple[InputSpec, ...]:
        """The inputs as the data calls them."""
        return by_key(self.inputs) if self.keyed else self.inputs

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def per_run(self) -> int | None:
        return samples_per_run(self.inputs)

    @property
    def breaks(self) -> list[int]:
        """Where a sample has another shape than the one before it: no batch goes across."""
        if self.source.groups is None:
            return []
        return [int(n) + 1 for n in np.flatnonzero(np.diff(self.source.groups[self.rows]))]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about how the data was taken."""
        left_out = ", ".join(self.source.left_out)
        taken = [f"{left_out} of the data: no input of the model, left out"] if left_out else []
        known = {mask.name for mask in self.masks}
        open_questions = (
            f"{spec.name} looks like a padding mask: padded frames count as data unless it is "
            f"named with --mask {spec.name}"
            for spec in self._called
            if looks_like_a_mask(spec) and spec.name not in known
        )
        own: tuple[str, ...] = getattr(self.source, "notes", ())
        return (*taken, *own, *self._unscaled(), *open_questions, *self._notes_on_masks())

    def _unscaled(self) -> Iterator[str]:
        """Pixels from 0 to 255 for a network that most likely wants 0 to 1: nobody else notices."""
        if not any(spec.dtype is not None and spec.dtype.kind == "f" for spec in self._called):
            return
        found = named(self.source.read(self.rows[:1]), row_specs(self._called), self.name)
        for spec in row_specs(self._called):
            array = found.get(spec.name)
            if array is not None and array.dtype == np.uint8 and spec.dtype != array.dtype:
                yield (
                    f"warning: {spec.name} is uint8 in the data and {spec.dtype} in the model: its values "
                    "(0 to 255) are taken as they are; divide them first if the network was trained "
                    "on other ones"
                )

    def _notes_on_masks(self) -> Iterator[str]:
        for mask, rows in zip(self.masks, self._flags, strict=True):
            share = sum(int(row.sum()) for row in rows) / max(sum(row.size for row in rows), 1)
            yield f"frames do not count where {mask.rule}: {share:.0%} of all frames do"

    def flags(self, start: int, stop: int) -> tuple[Flags, ...]:
        """For each mask, which frames of the samples from ``start`` up to ``stop`` count."""
        return tuple(np.stack(rows[start:stop]) for rows in self._flags)

    @cached_property
    def _flags(self) -> list[list[Flags]]:
        """For each mask, its rows.

        Raises:
            DataError: where one is missing, or has no entry for each frame, or nothing counts.
        """
        found: list[list[Flags]] = [[] for _ in self.masks]
        for row in range(self.count if self.masks else 0):
            arrays = self.source.read(self.rows[row : row + 1])
            for mask, rows in zip(self.masks, found, strict=True):
                if mask.name not in arrays:
                    names = ", ".join(name for name in arrays if name) or "it has no names"
                    raise DataError(
                        f"{self.name} holds no {mask.name}; --mask and --padding name an array of "
                        f"the data ({names})"
                    )
                rows.extend(mask.flags(arrays[mask.name]))
        for mask, rows in zip(self.masks, found, strict=True):
            if not any(row.any() for row in rows):
                raise DataError(
                    f"no frame counts: everywhere {mask.rule}; is it the other way round?"
                )
        return found

    def check_masks(self) -> None:
        """Raises a `DataError` where the data has no such masks."""
        assert self._flags is not None

    def read(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """The samples from ``start`` up to ``stop`` by input name, in the inputs' types.

        Where a sample is a whole call, only one can be read at a time.

        Raises:
            DataError: where they cannot be read, do not fit, or are not finite.
        """
        specs, whole = row_specs(self._called), takes_whole_calls(self.inputs)
        found = named(self.source.read(self.rows[start:stop]), specs, self.name)
        if not specs:
            plain = {name: np.ascontiguousarray(array) for name, array in found.items()}
            for name, array in plain.items():
                self._check_finite(name, array, start)
            return plain
        known = [spec for spec in specs if spec.name in found]
        for spec in known:
            check(spec, found[spec.name], self.name, _WHOLE_CALL if whole else "")
        with np.errstate(over="ignore"):  # what does not fit the type is refused below
            feeds = {s.name: np.ascontiguousarray(found[s.name], dtype=s.dtype) for s in known}
        for name, array in feeds.items():
            self._check_finite(name, array, start)
        own = {called.name: spec.name for called, spec in zip(specs, self.inputs, strict=True)}
        feeds = {own[name]: array for name, array in feeds.items()}
        if not whole:
            return feeds
        assert stop - start == 1
        return {name: array.reshape(array.shape[1:]) for name, array in feeds.items()}

    def _check_finite(self, name: str, array: NDArray[Any], start: int) -> None:
        """Whatever is compared or measured on NaN agrees with everything.

        Raises:
            DataError: naming the first sample and the input.
        """
        if array.dtype.kind in "biu" or not array.size:
            return
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            row = int(self.rows[start + int(np.argmin(finite))])
            raise DataError(
                f"sample {row} of {self.name} (counted from 0) holds NaN or infinite values in input "
                f"{name} as {array.dtype}; remove or repair it"
            )


def choose(count: int, options: SampleOptions) -> Indices:
    """Which of ``count`` rows make up the sample."""
    wanted = count if options.samples is None else min(options.samples, count)
    if options.shuffle:
        order = np.random.default_rng(options.seed).permutation(count)
        return order[:wanted].astype(np.int64)
    return np.arange(wanted, dtype=np.int64) * count // max(wanted, 1)


def named(found: Arrays, inputs: Sequence[InputSpec], where: str) -> dict[str, NDArray[Any]]:
    """The arrays by input name; further ones, labels say, are left out. No inputs: all arrays.

    Raises:
        DataError: where an input has none.
    """
    if not inputs:
        return dict(found)
    unnamed = by_position(inputs)
    known = [spec for spec in inputs if spec.name in found]
    if not known and len(unnamed) == 1 and len(found) == 1:
        return {unnamed[0].name: next(iter(found.values()))}
    missing = [spec for spec in inputs if spec not in known and not spec.optional]
    if missing or not known:
        wanted = "; ".join(spec.describe() for spec in inputs)
        names = ", ".join(name or "one array without a name" for name in found)
        raise DataError(f"{where} holds {names}, but the model wants {wanted}")
    return {spec.name: found[spec.name] for spec in known}


def check(spec: InputSpec, array: NDArray[Any], where: str, hint: str = "") -> None:
    """Compares a batch with an input; ``hint`` ends the message.

    Raises:
        DataError: with both sides, where shape or type do not fit.
    """
    fits = spec.shape is None or (
        array.ndim == len(spec.shape)
        and all(
            axis == 0 or wanted in (None, got)
            for axis, (wanted, got) in enumerate(zip(spec.shape, array.shape, strict=True))
        )
    )
    whole = spec.dtype is not None and spec.dtype.kind in "iub"
    # bfloat16 and its like have a kind of their own.
    numbers = array.dtype.kind in ("iub" if whole else "fiub")
    if not fits or not (numbers or (not whole and "float" in array.dtype.name)):
        shape = ", ".join(["samples", *map(str, array.shape[1:])])
        raise DataError(
            f"{where} gives {array.dtype} [{shape}], but the model wants {spec.describe()}{hint}"
        )
