"""Safetensors files: https://huggingface.co/docs/safetensors (8 bytes, JSON, elements)."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from bnfold.data.arrays import ArrayRows
from bnfold.data.signature import InputSpec
from bnfold.data.source import SampleOptions
from bnfold.data.stored import StoredArray
from bnfold.errors import DataError
from bnfold.files import SourceFile

_TYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


_DAMAGE = (OSError, ValueError, KeyError, TypeError, struct.error, OverflowError, MemoryError)


def open_safetensors(path: Path, inputs: Sequence[InputSpec], options: SampleOptions) -> ArrayRows:
    """Tensors named as the inputs, left in the file.

    Raises:
        DataError: where the file is damaged.
    """
    try:
        file = SourceFile(path, DataError)
        (length,) = struct.unpack("<Q", file.read(0, min(8, file.size)))
        header = json.loads(file.read(8, min(length, file.size - 8)))
        tensors = {k: v for k, v in header.items() if k != "__metadata__"}
        arrays = {name: _stored(file, 8 + length, entry) for name, entry in tensors.items()}
    except _DAMAGE as error:
        raise DataError(f"{path} is no intact safetensors file ({error})") from None
    return ArrayRows(arrays, inputs, path)


def _stored(file: SourceFile, start: int, entry: dict[str, Any]) -> StoredArray:
    dtype, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(map(int, entry["shape"]))
    begin, end = map(int, entry["data_offsets"])
    if end - begin != prod(shape) * dtype.itemsize or min((begin, *shape), default=0) < 0:
        raise ValueError("a tensor has the wrong length")
    if start + end > file.size:
        raise ValueError("it ends too early")
    return StoredArray(file, start + begin, dtype, shape)
