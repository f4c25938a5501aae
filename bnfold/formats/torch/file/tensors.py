"""Between torch tensors and NumPy arrays, bfloat16 included (NumPy knows it through ml_dtypes)."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

from bnfold.proof.listing import same_bits

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.bfloat16: _BFLOAT16,
    **{
        getattr(torch, name): np.dtype(name)
        for name in (
            "float64 float32 float16 int64 int32 int16 int8 uint8 bool complex64 complex128"
        ).split()
    },
}
_BACK = {numpy: torch_type for torch_type, numpy in _DTYPES.items()}


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """The NumPy type of a torch type.

    Raises:
        KeyError: for types without one (quantised and 8-bit floats).
    """
    return _DTYPES[dtype]


def has_numpy_dtype(dtype: torch.dtype) -> bool:
    return dtype in _DTYPES


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """The torch type of a NumPy type. Raises KeyError for types without one."""
    return _BACK[np.dtype(dtype)]


def to_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """The elements of a tensor on any device, as an array of the same shape and type."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if tensor.dtype is torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy()).view(_BFLOAT16)
    return np.asarray(tensor.numpy())


def to_torch(array: NDArray[Any]) -> torch.Tensor:
    """A tensor of its own memory with the elements of ``array``."""
    array = np.array(array, order="C")
    if array.dtype == _BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def lent(array: NDArray[Any]) -> torch.Tensor:
    """A tensor in the memory of ``array`` where that can be, for who does not write into it."""
    fitting = array.flags.writeable and array.flags.c_contiguous and array.dtype in _BACK
    return torch.from_numpy(array) if fitting and array.dtype != _BFLOAT16 else to_torch(array)


def same_memory(a: object, b: object) -> bool:
    """Whether both are one tensor under two names."""
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return a is b
    return a is b or (a.shape == b.shape and a.numel() > 0 and a.data_ptr() == b.data_ptr())


def same_elements(a: torch.Tensor, b: torch.Tensor | None) -> bool:
    """Whether type, shape and every bit agree; for types that NumPy lacks, every element."""
    if b is None or a.shape != b.shape or a.dtype != b.dtype:
        return False
    if has_numpy_dtype(a.dtype) and a.layout is torch.strided:
        return same_bits(to_numpy(a), to_numpy(b))
    return bool(torch.equal(a, b))


def in_format_of(old: Any, tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` in the memory format of what it replaces."""
    last: Any = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.ndim)
    if last is None or not isinstance(old, torch.Tensor) or old.shape != tensor.shape:
        return tensor
    plain = old.is_contiguous() or not old.is_contiguous(memory_format=last)
    return tensor if plain else tensor.contiguous(memory_format=last)
