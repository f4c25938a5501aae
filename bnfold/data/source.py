"""Samples of model inputs: where they come from, and whether they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bnfold.data.signature import InputSpec, row_specs, samples_per_run, takes_whole_calls
from bnfold.errors import DataError

Arrays = Mapping[str, NDArray[Any]]
Indices = NDArray[np.int64]
_WHOLE_CALL = "; as its inputs share no batch axis, each sample is all that one call takes"


class Source(Protocol):
    """One kind of data: rows by position, read when they are asked for.

    Arrays go by the name of an input; by the empty name where the source knows no names.
    """

    count: int

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
    apply to colours between 0 and 1. ``size_limit``: refuse archives and images that unpack to far
    more than they hold, and more than half of the free disk.
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


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of a source that fit a model's inputs.

    ``per_run``: how many of them each run of the model takes, None where any number will do.
    """

    name: str
    source: Source
    inputs: tuple[InputSpec, ...]
    rows: Indices = field(repr=False)

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def per_run(self) -> int | None:
        return samples_per_run(self.inputs)

    def read(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """The samples from ``start`` up to ``stop`` by input name, in the inputs' types.

        Where a sample is a whole call, only one can be read at a time.

        Raises:
            DataError: where they cannot be read or do not fit.
        """
        specs, whole = row_specs(self.inputs), takes_whole_calls(self.inputs)
        found = named(self.source.read(self.rows[start:stop]), specs, self.name)
        for spec in specs:
            check(spec, found[spec.name], self.name, _WHOLE_CALL if whole else "")
        feeds = {s.name: np.ascontiguousarray(found[s.name], dtype=s.dtype) for s in specs}
        if not whole:
            return feeds
        assert stop - start == 1
        return {name: array.reshape(array.shape[1:]) for name, array in feeds.items()}


def choose(count: int, options: SampleOptions) -> Indices:
    """Which of ``count`` rows make up the sample."""
    wanted = count if options.samples is None else min(options.samples, count)
    if options.shuffle:
        order = np.random.default_rng(options.seed).permutation(count)
        return order[:wanted].astype(np.int64)
    return np.arange(wanted, dtype=np.int64) * count // max(wanted, 1)


def named(found: Arrays, inputs: Sequence[InputSpec], where: str) -> dict[str, NDArray[Any]]:
    """The arrays by input name; further ones, labels say, are left out.

    Raises:
        DataError: where an input has none.
    """
    if len(inputs) == 1 and len(found) == 1:
        return {inputs[0].name: next(iter(found.values()))}
    missing = [spec for spec in inputs if spec.name not in found]
    if missing:
        wanted = "; ".join(spec.describe() for spec in inputs)
        names = ", ".join(name or "one array without a name" for name in found)
        raise DataError(f"{where} holds {names}, but the model wants {wanted}")
    return {spec.name: found[spec.name] for spec in inputs}


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
