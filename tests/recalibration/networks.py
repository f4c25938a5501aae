"""Small ONNX networks, and a slow float64 reference that knows nothing of levels or pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

SAMPLES = Path(__file__).parents[2] / "sample_models"
CALIBRATION = SAMPLES / "digits_calibration.npz"
Found = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def digits(count: int) -> NDArray[np.float32]:
    with np.load(CALIBRATION) as archive:
        images: NDArray[np.float32] = archive["image"][:count]
    return images


def norm_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "BatchNormalization"]


def stored(path: Path) -> Found:
    """Running mean and variance of each BatchNormalization, by node name."""
    model = onnx.load(path)
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    return {
        node.name or node.output[0]: (
            tensors[node.input[3]].astype(np.float64),
            tensors[node.input[4]].astype(np.float64),
        )
        for node in norm_nodes(model)
    }


def reference_statistics(
    path: Path, feeds: dict[str, NDArray[Any]], prior: float = 0, skip: tuple[str, ...] = ()
) -> Found:
    """Layer by layer in the order of the file: run the whole network, measure, set, go on."""
    model = _in_float64(onnx.load(path))
    samples = len(next(iter(feeds.values())))
    feeds = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in feeds.items()}
    found: Found = {}
    for node in norm_nodes(model):
        if node.name in skip:
            continue
        evaluator = ReferenceEvaluator(_up_to(model, node.input[0]))
        x = np.asarray(next(iter(evaluator.run(None, feeds))))
        axes = tuple(i for i in range(x.ndim) if i != 1)
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
        old = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        weight = prior / (prior + samples)
        mean = weight * old[node.input[3]] + (1 - weight) * mean
        variance = weight * old[node.input[4]] + (1 - weight) * variance
        for position, array in ((3, mean), (4, variance)):
            name = f"{node.name}_new_{position}"
            model.graph.initializer.append(numpy_helper.from_array(array, name))
            node.input[position] = name
        found[node.name] = mean, variance
    return found


def _in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "f":
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float64), tensor.name))
    # Resolved, so that every statistic is an initializer.
    tensors = {t.name for t in model.graph.initializer}
    alias = {
        n.output[0]: n.input[0]
        for n in model.graph.node
        if n.op_type == "Identity" and n.input[0] in tensors
    }
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = alias.get(name, name)
    return model


def _up_to(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    producers = {o: n for n in result.graph.node for o in n.output}
    wanted, pending = set(), [name]
    while pending:
        node = producers.get(pending.pop())
        if node is not None and node.name + node.output[0] not in wanted:
            wanted.add(node.name + node.output[0])
            pending += node.input
    kept = [n for n in result.graph.node if n.name + n.output[0] in wanted]
    del result.graph.node[:]
    result.graph.node.extend(kept)
    del result.graph.output[:]
    result.graph.output.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, None))
    return result


class Builder:
    """Builds one network node by node; parameters are drawn from a fixed seed."""

    def __init__(self, channels: int = 3, batch: int | str = "n", size: int = 6) -> None:
        self.rng = np.random.default_rng(7)
        self.channels, self.shape = channels, [batch, channels, size, size]
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.dtype = np.float32

    def tensor(self, name: str, array: NDArray[Any]) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(array).astype(self.dtype), name))
        return name

    def op(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(self, x: str, output: str) -> str:
        shape = (self.channels, self.channels, 3, 3)
        weight = self.tensor(f"{output}.weight", self.rng.normal(0, 0.3, shape))
        return self.op("Conv", [x, weight], output, pads=[1, 1, 1, 1])

    def norm(self, x: str, output: str, like: str | None = None, **attributes: Any) -> str:
        """A BatchNormalization; ``like``: another call of that layer."""
        names = [f"{like or output}.{p}" for p in ("scale", "bias", "mean", "variance")]
        if like is None:
            for name, low, high in zip(names, (0.5, -1, -1, 0.5), (1.5, 1, 1, 2), strict=True):
                self.tensor(name, self.rng.uniform(low, high, self.channels))
        return self.op("BatchNormalization", [x, *names], output, **attributes)

    def save(self, path: Path, output: str, opset: int = 17) -> Path:
        code = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("x", code, self.shape)],
            [helper.make_tensor_value_info(output, code, None)],
            self.tensors,
        )
        imports = [helper.make_opsetid("", opset)]
        onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
        return path
