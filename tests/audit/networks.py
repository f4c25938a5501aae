"""Small ONNX networks for the audit: each a healthy one, with one thing changed by an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bnfold.audit import Finding, Observed, Selection, run_rules
from bnfold.formats.onnx import OnnxModel
from bnfold.planning import make_plan

CHANNELS = 8
Floats = NDArray[Any]


def healthy(channels: int = CHANNELS) -> dict[str, Floats]:
    """Parameters of a layer with which nothing is wrong."""
    rng = np.random.default_rng(2015)
    return {
        "scale": rng.uniform(0.8, 1.2, channels),
        "shift": rng.normal(0, 0.1, channels),
        "mean": rng.normal(0, 0.5, channels),
        "variance": rng.uniform(0.5, 2.0, channels),
    }


def with_first(name: str, value: float) -> dict[str, Floats]:
    """Those parameters, the first channel of one of them replaced."""
    parameters = healthy()
    parameters[name][0] = value
    return parameters


def tensor(name: str, values: Floats, dtype: str = "float32") -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values).astype(dtype), name)


def norm(
    name: str,
    source: str,
    target: str,
    parameters: Mapping[str, Floats] | None = None,
    **settings: Any,
) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    """A BatchNormalization and its four tensors; ``settings`` are its attributes."""
    parameters = parameters or healthy()
    names = [f"{name}.{key}" for key in ("scale", "shift", "mean", "variance")]
    tensors = [tensor(n, parameters[n.rpartition(".")[2]]) for n in names]
    return helper.make_node(
        "BatchNormalization", [source, *names], [target], name, **settings
    ), tensors


def conv(
    name: str,
    source: str,
    target: str,
    *,
    inputs: int = CHANNELS,
    bias: bool = False,
    **settings: Any,
) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    """A 1x1 convolution to `CHANNELS` channels; give ``kernel`` and ``pads`` for others."""
    kernel = settings.pop("kernel", 1)
    weight = settings.pop("weight", None)
    rng = np.random.default_rng(7)
    tensors, names = [], [source, weight or f"{name}.weight"]
    if weight is None:
        tensors.append(tensor(names[1], rng.normal(0, 0.5, (CHANNELS, inputs, kernel, kernel))))
    if bias:
        names.append(f"{name}.bias")
        tensors.append(tensor(names[2], rng.normal(0, 0.5, CHANNELS)))
    return helper.make_node("Conv", names, [target], name, **settings), tensors


def network(
    *parts: tuple[onnx.NodeProto, list[onnx.TensorProto]],
    outputs: Sequence[str] = ("y",),
    overridable: bool = False,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model from ``x`` (N, 8, 6, 6) through ``parts`` to ``outputs``."""
    tensors = [t for _, own in parts for t in own]
    shape: list[str | int | None] = ["n", CHANNELS, 6, 6]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    if overridable:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(
        [node for node, _ in parts],
        "network",
        inputs,
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def op(kind: str, source: str | Sequence[str], target: str, **settings: Any) -> Any:
    """A node without parameters of its own, named after its output."""
    sources = [source] if isinstance(source, str) else list(source)
    return helper.make_node(kind, sources, [target], f"{kind.lower()}_{target}", **settings), []


def conv_bn(parameters: Mapping[str, Floats] | None = None, **settings: Any) -> onnx.ModelProto:
    """Conv → BatchNorm → ReLU, the one that every tool folds."""
    return network(
        conv("conv", "x", "a"), norm("bn", "a", "b", parameters, **settings), op("Relu", "b", "y")
    )


def findings(
    model: onnx.ModelProto,
    folder: Path,
    selection: Selection | None = None,
    observed: Mapping[str, Observed] | None = None,
) -> tuple[Finding, ...]:
    """What the audit says of a model."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    opened = OnnxModel(path)
    return run_rules(opened, make_plan(opened.graph), selection, observed)


def seen(
    parameters: Mapping[str, Floats],
    *,
    shift: float = 0.0,
    factor: float = 1.0,
    count: int = 10_000,
) -> Observed:
    """Observations that lie ``shift`` deviations and a ``factor`` of the variance from the stored."""
    mean, variance = parameters["mean"], parameters["variance"]
    return Observed(mean + shift * np.sqrt(variance + 1e-5), factor * variance, count)
