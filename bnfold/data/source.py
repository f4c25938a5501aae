"""Samples of model inputs, read from files of arrays in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data.signature import InputSpec
from bnfold.errors import DataError


@dataclass(frozen=True, eq=False)
class Sample:
    """Arrays by input name; the first axis of each counts the samples."""

    name: str
    arrays: Mapping[str, NDArray[Any]]
    count: int

    def batches(self, size: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Consecutive batches, the last one as small as what is left."""
        for start in range(0, self.count, size):
            yield {k: np.asarray(a[start : start + size]) for k, a in self.arrays.items()}


def open_sample(path: Path, inputs: Sequence[InputSpec]) -> Sample:
    """Opens a sample and checks it against a model's signature.

    Args:
        path: ``.npy`` (for a model with one input) or ``.npz`` (arrays named as the inputs; further
            arrays, labels say, are left out).
        inputs: what the model wants.

    Raises:
        DataError: where names, types or shapes do not fit; the message shows both sides.
    """
    arrays = _named(_read(path), inputs, path)
    for spec in inputs:
        _check(spec, arrays[spec.name], path)
    counts = {a.shape[0] for a in arrays.values()}
    if len(counts) != 1 or not next(iter(counts)):
        raise DataError(f"{path} holds {sorted(counts)} samples for its inputs; give one number > 0")
    typed = {s.name: np.asarray(arrays[s.name], dtype=s.dtype) for s in inputs}
    return Sample(str(path), typed, counts.pop())


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        loaded = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path given with --data") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is no readable .npy or .npz file ({error})") from None
    if isinstance(loaded, np.ndarray):
        return {"": loaded}
    with loaded:
        return {name: loaded[name] for name in loaded.files}


def _named(
    found: dict[str, NDArray[Any]], inputs: Sequence[InputSpec], path: Path
) -> dict[str, NDArray[Any]]:
    if len(inputs) == 1 and len(found) == 1:
        return {inputs[0].name: next(iter(found.values()))}
    missing = [spec for spec in inputs if spec.name not in found]
    if missing:
        wanted = "; ".join(spec.describe() for spec in inputs)
        names = ", ".join(name or "one array without a name" for name in found)
        raise DataError(f"{path} holds {names}, but the model wants {wanted}")
    return {spec.name: found[spec.name] for spec in inputs}


def _check(spec: InputSpec, array: NDArray[Any], path: Path) -> None:
    fits = spec.shape is None or (
        array.ndim == len(spec.shape)
        and all(
            axis == 0 or wanted in (None, got)
            for axis, (wanted, got) in enumerate(zip(spec.shape, array.shape, strict=True))
        )
    )
    kinds = "iub" if spec.dtype is not None and spec.dtype.kind in "iub" else "fiub"
    if not fits or array.dtype.kind not in kinds:
        shape = ", ".join(map(str, array.shape))
        raise DataError(
            f"{path} gives {array.dtype} [{shape}], but the model wants {spec.describe()}"
        )
