"""What is damaged: the small models of the other tests, and the sample models."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from situations import SITUATIONS
from situations.fold import ROOT

_LARGE = 200_000


def onnx_seed(rng: random.Random) -> onnx.ModelProto:
    """One of the small models, now and then one of the trained ones."""
    if rng.random() < 0.1:
        return onnx.load(rng.choice(sorted((ROOT / "sample_models").glob("*.onnx"))))
    while True:
        model = rng.choice(SITUATIONS).build()
        if model.ByteSize() < _LARGE:
            return model


def sample_for(model: onnx.ModelProto, path: Path) -> None:
    """Data that fits the inputs of the model as it was before the damage."""
    rng = np.random.default_rng(0)
    given = {tensor.name for tensor in model.graph.initializer}
    arrays: dict[str, Any] = {}
    for value in model.graph.input:
        if value.name in given:
            continue
        tensor = value.type.tensor_type
        dims = [d.dim_value or (16 if i else 8) for i, d in enumerate(tensor.shape.dim)]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type or 1)
        arrays[value.name] = rng.standard_normal(dims).astype(dtype)
    np.savez(path, **arrays)
