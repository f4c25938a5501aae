"""Safetensors files, mapped: https://huggingface.co/docs/safetensors (8 bytes, JSON, elements)."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bnfold.data.arrays import ArrayRows
from bnfold.data.signature import InputSpec
from bnfold.data.source import SampleOptions
from bnfold.errors import DataError

_TYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


_DAMAGE = (OSError, ValueError, KeyError, TypeError, struct.error, OverflowError, MemoryError)


def open_safetensors(path: Path, inputs: Sequence[InputSpec], options: SampleOptions) -> ArrayRows:
    """Tensors named as the inputs.

    Raises:
        DataError: where the file is damaged.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        tensors = {k: v for k, v in header.items() if k != "__metadata__"}
        arrays = {name: _mapped(path, 8 + length, entry) for name, entry in tensors.items()}
    except _DAMAGE as error:
        raise DataError(f"{path} is no intact safetensors file ({error})") from None
    return ArrayRows(arrays, inputs, path)


def _mapped(path: Path, start: int, entry: dict[str, Any]) -> NDArray[Any]:
    dtype, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if end - begin != int(np.prod(shape)) * dtype.itemsize:
        raise ValueError("a tensor has the wrong length")
    if begin == end:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start + begin, shape=shape)
