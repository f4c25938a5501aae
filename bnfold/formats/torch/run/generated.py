"""Inputs made from the signature; whoever compares on them sees whether the program runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data import InputSpec
from bnfold.errors import DataError
from bnfold.formats.torch.graph.model import TorchModel


def generated_inputs(model: TorchModel) -> Sequence[Mapping[str, NDArray[Any]]]:
    """Two sets: normally distributed values, and values between 0 and 1 as images have them.

    Raises:
        DataError: where an input has a type that cannot be made up.
    """
    rng = np.random.default_rng(0)
    return [
        {spec.name: _made_up(model, spec, rng, image=image) for spec in model.inputs}
        for image in (False, True)
    ]


def _made_up(
    model: TorchModel, spec: InputSpec, rng: np.random.Generator, *, image: bool
) -> NDArray[Any]:
    node = next(n for n in model.program.graph.nodes if n.name == spec.name)
    shape = model.oracle.symbols.shape(node.meta["val"], 0)
    if spec.dtype is None or shape is None:
        raise DataError(f"input {spec.name} has a type to make no values for; give --data")
    if spec.dtype.kind in "biu":  # 0 and 1 are legal indices nearly everywhere
        return rng.integers(0, 2, shape).astype(spec.dtype)
    values = rng.random(shape) if image else rng.standard_normal(shape)
    return values.astype(spec.dtype)
