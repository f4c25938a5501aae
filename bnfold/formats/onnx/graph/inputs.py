"""Inputs made from a model's signature, for comparisons without a data sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bnfold.data import InputSpec
from bnfold.errors import DataError
from bnfold.formats.onnx.graph.sizes import Sizes

SETS = 2
_MOST_ELEMENTS = 1 << 28  # 2 GiB of random numbers
_LIGHT = 1 << 24


def signature(model: onnx.ModelProto) -> list[InputSpec]:
    """The inputs that a caller must give: those without an initializer."""
    given = {tensor.name for tensor in model.graph.initializer}
    return [_spec(value) for value in model.graph.input if value.name not in given]


def _spec(value: onnx.ValueInfoProto) -> InputSpec:
    tensor = value.type.tensor_type
    code = tensor.elem_type
    text = None if code in (TensorProto.STRING, TensorProto.UNDEFINED) else code
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(code)) if text else None
    if not tensor.HasField("shape"):
        return InputSpec(value.name, dtype, None)
    dims = [
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None
        for d in tensor.shape.dim
    ]
    return InputSpec(value.name, dtype, tuple(dims))


def make_inputs(inputs: Sequence[InputSpec], sizes: Sizes, which: int) -> dict[str, NDArray[Any]]:
    """One of two sets: normally distributed values, or values between 0 and 1 as images have them.

    Args:
        inputs: the signature.
        sizes: for a dynamic first axis, and for any other dynamic axis.
        which: 0 or 1.

    Raises:
        DataError: where an input is no plain tensor of numbers, or a huge one.
    """
    rng = np.random.default_rng(which)
    return {spec.name: _array(spec, sizes, rng, image=bool(which)) for spec in inputs}


def bearable(inputs: Sequence[InputSpec], among: Sequence[Sizes]) -> list[Sizes]:
    """The sizes to try in turn: those of which little becomes much (a fixed axis may be long) come
    last, and only the two smallest of them."""
    light = [sizes for sizes in among if _elements(inputs, sizes) <= _LIGHT]
    heavy = sorted(set(among) - set(light), key=lambda sizes: _elements(inputs, sizes))
    return light + heavy[:2]


def is_heavy(inputs: Sequence[InputSpec], sizes: Sizes) -> bool:
    """Whether one set of inputs of such sizes is enough."""
    return _elements(inputs, sizes) > _LIGHT


def _elements(inputs: Sequence[InputSpec], sizes: Sizes) -> int:
    return sum(math.prod(_shape(spec, sizes)) for spec in inputs)


def _shape(spec: InputSpec, sizes: Sizes) -> tuple[int, ...]:
    batch, other = sizes
    return tuple(
        n if n is not None else (batch if axis == 0 else other)
        for axis, n in enumerate(spec.shape or ())
    )


def _array(spec: InputSpec, sizes: Sizes, rng: np.random.Generator, *, image: bool) -> NDArray[Any]:
    if spec.dtype is None or spec.shape is None:
        raise DataError(
            f"input {spec.name} has no tensor type or shape to make values for; give some with --data"
        )
    shape = _shape(spec, sizes)
    if math.prod(shape) > _MOST_ELEMENTS:
        raise DataError(
            f"input {spec.name!r} of shape {list(shape)} is too large to make values for; "
            "give some with --data"
        )
    if spec.dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if np.issubdtype(spec.dtype, np.integer):  # 0 and 1 are legal indices nearly everywhere
        return rng.integers(0, 2, shape).astype(spec.dtype)
    values = rng.random(shape) if image else rng.standard_normal(shape)
    return values.astype(spec.dtype)
