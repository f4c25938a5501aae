"""How much a tensor holds, and how much its dimensions say it holds."""

from __future__ import annotations

import math

import numpy as np
import onnx

from bnfold.errors import ModelError

DATA_TYPES = frozenset(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}
PACKED = {  # bits of one element, where several share a byte
    onnx.TensorProto.DataType.Value(name): bits
    for name, bits in (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
    if name in onnx.TensorProto.DataType.keys()  # noqa: SIM118
}
_COMPLEX = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
MOST_ELEMENTS = 1 << 50  # a petabyte


def check_dimensions(tensor: onnx.TensorProto) -> None:
    """That the type is known and the dimensions are sizes.

    Raises:
        ModelError: where they are not.
    """
    name, dims = tensor.name, list(tensor.dims)
    if tensor.data_type not in DATA_TYPES:
        raise ModelError(f"tensor {name!r} has the unknown data type {tensor.data_type}")
    if any(n < 0 for n in dims):
        raise ModelError(f"tensor {name!r} has negative dimensions, {dims}")
    if math.prod(n or 1 for n in dims) > MOST_ELEMENTS:
        raise ModelError(f"tensor {name!r} has more elements than there can be, {dims}")


def check_elements(tensor: onnx.TensorProto, outside: int | None) -> None:
    """That there are as many elements as the dimensions say.

    Args:
        tensor: with dimensions that are sizes.
        outside: how many bytes lie outside of the tensor; None where it has its own.

    Raises:
        ModelError: where there are more, or fewer.
    """
    if outside is None and not tensor.HasField("raw_data"):
        found, due, unit = _entries_inside(tensor), _entries_due(tensor), "numbers"
    else:
        found = len(tensor.raw_data) if outside is None else outside
        due, unit = bytes_due(tensor), "bytes"
    if found != due:
        raise ModelError(
            f"tensor {tensor.name!r} of dimensions {list(tensor.dims)} holds {found} {unit} where "
            f"{due} are due; the file is damaged, export it again"
        )


def place_of(tensor: onnx.TensorProto) -> tuple[str, int, int]:
    """``(location, offset, length)`` of external data. Without a length, it is what is due.

    Raises:
        ModelError: where the file says it twice, or in no numbers.
    """
    found: dict[str, str] = {}
    for entry in tensor.external_data:
        if found.setdefault(entry.key, entry.value) != entry.value:
            raise ModelError(f"tensor {tensor.name!r} says twice where its data lies")
    offset, length = (_number(tensor, found.get(key, "0")) for key in ("offset", "length"))
    return found.get("location", ""), offset, length or bytes_due(tensor)


def _number(tensor: onnx.TensorProto, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(
            f"the external data of tensor {tensor.name!r} lies at {text!r}, which is no number"
        )
    return int(text)


def bytes_due(tensor: onnx.TensorProto) -> int:
    """How many bytes the elements of a tensor take."""
    elements: int = math.prod(tensor.dims)
    if tensor.data_type in PACKED:
        return -(-elements * PACKED[tensor.data_type] // 8)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return elements * int(dtype.itemsize)


def _entries_due(tensor: onnx.TensorProto) -> int:
    """How many entries the field for a tensor's type has, where it has no raw bytes."""
    elements: int = math.prod(tensor.dims)
    if tensor.data_type in PACKED:
        return bytes_due(tensor)
    return elements * 2 if tensor.data_type in _COMPLEX else elements


def _entries_inside(tensor: onnx.TensorProto) -> int:
    field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
    return len(getattr(tensor, field))
