"""A small language to write ONNX graphs in, and the record that says what must become of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str]


class Net:
    """Builds one graph. A node ``name`` gives the value ``name_out``; weights get seeded numbers.

    Args:
        opset: version of the standard operator set.
        ir: version of the file format.
        dtype: element type of inputs and weights.
        seed: of the weights.
    """

    def __init__(self, opset: int = 17, ir: int = 8, dtype: int = TensorProto.FLOAT, seed: int = 0):
        self.opset, self.ir, self.dtype = opset, ir, dtype
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.numpy_type = np.dtype(helper.tensor_dtype_to_np_dtype(dtype))

    def input(self, *dims: int | str, name: str = "x", dtype: int | None = None) -> str:
        info = helper.make_tensor_value_info(name, dtype or self.dtype, list(dims))
        self.inputs.append(info)
        return name

    def const(self, array: ArrayLike, name: str | None = None, dtype: Any = None) -> str:
        """An initializer; floats come in the type of the net unless told."""
        values = np.asarray(array)
        if dtype is not None:
            values = values.astype(dtype)
        elif values.dtype.kind == "f":
            values = values.astype(self.numpy_type)
        name = name or f"const{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, *shape: int, name: str | None = None, low: float = -1, high: float = 1) -> str:
        return self.const(self.rng.uniform(low, high, shape), name)

    def op(self, op: str, *inputs: str, name: str, outputs: int = 1, **attributes: Any) -> str:
        """Adds a node; returns its first output. ``outputs`` more are ``name_out1`` and so on."""
        names = [f"{name}_out"] + [f"{name}_out{i}" for i in range(1, outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names[0]

    def conv(
        self,
        x: str,
        inputs: int,
        outputs: int,
        kernel: Sequence[int] = (3, 3),
        name: str = "conv",
        bias: bool = True,
        group: int = 1,
        **attributes: Any,
    ) -> str:
        weight = self.weight(outputs, inputs // group, *kernel, name=f"{name}.weight")
        more = [self.weight(outputs, name=f"{name}.bias")] if bias else []
        if group != 1:
            attributes["group"] = group
        return self.op("Conv", x, weight, *more, name=name, **attributes)

    def bn(
        self, x: str, channels: int, name: str = "bn", *, outputs: int = 1, **settings: Any
    ) -> str:
        """BatchNormalization with scales of both signs.

        Args:
            settings: ``scale``, ``shift``, ``mean`` or ``variance`` (one number for all channels or
                one each), and attributes.
        """
        signs = np.where(np.arange(channels) % 2, -1.0, 1.0)
        made = {
            "scale": signs * self.rng.uniform(0.5, 1.5, channels),
            "shift": self.rng.uniform(0.3, 1, channels),
            "mean": self.rng.uniform(-1, 1, channels),
            "variance": self.rng.uniform(0.5, 2, channels),
        }
        names = []
        for key, usual in made.items():
            vector = np.asarray(settings.pop(key, usual), np.float64)
            names.append(self.const(np.broadcast_to(vector, (channels,)), f"{name}.{key}"))
        return self.op("BatchNormalization", x, *names, name=name, outputs=outputs, **settings)

    def relu(self, x: str, name: str = "relu") -> str:
        return self.op("Relu", x, name=name)

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))

    def constant_node(self, array: ArrayLike, name: str, **attributes: Any) -> str:
        if not attributes:
            values = np.asarray(array).astype(self.numpy_type)
            attributes = {"value": numpy_helper.from_array(values)}
        return self.op("Constant", name=name, **attributes)

    def last(self) -> onnx.NodeProto:
        return self.nodes[-1]

    def graph(self, *outputs: str, name: str = "net") -> onnx.GraphProto:
        infos = [helper.make_empty_tensor_value_info(o) for o in outputs]
        return helper.make_graph(self.nodes, name, self.inputs, infos, self.initializers)

    def model(self, *outputs: str, unknown: tuple[int, int] | None = None) -> onnx.ModelProto:
        """The finished model, output types and shapes inferred.

        Args:
            outputs: names of values.
            unknown: element type and rank of those outputs that inference does not reach.
        """
        used = {n.domain for n in self.nodes} | {f.domain for f in self.functions}
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(d, 1) for d in sorted(used - {""})]
        model = helper.make_model(
            self.graph(*outputs),
            opset_imports=imports,
            ir_version=self.ir,
            functions=self.functions,
            producer_name="situations",
            doc_string="a situation",
        )
        helper.set_model_props(model, {"author": "tests"})
        inferred = onnx.shape_inference.infer_shapes(model)
        code, rank = unknown or (self.dtype, 4)
        del model.graph.output[:]
        for info in inferred.graph.output:
            if not info.type.tensor_type.HasField("shape"):
                dims = [f"{info.name}_{axis}" for axis in range(rank)]
                info = helper.make_tensor_value_info(info.name, code, dims)
            model.graph.output.append(info)
        return model


@dataclass(frozen=True)
class Expected:
    """What must become of one source. ``into`` are node names; ``culprit`` a part of the name."""

    action: str
    direction: str | None = None
    into: tuple[str, ...] = ()
    reason: str | None = None
    culprit: str | None = None


def back(*into: str) -> Expected:
    """Folded backward."""
    return Expected("fold", "backward", into)


def ahead(*into: str) -> Expected:
    """Folded forward."""
    return Expected("fold", "forward", into)


def both(*into: str) -> Expected:
    """Folded by a choice of gauges; ``into`` are the nearest nodes that take something."""
    return Expected("fold", "both", into)


def merged(direction: str, *into: str) -> Expected:
    return Expected("merge", direction, into)


def keep(reason: str, culprit: str | None = None) -> Expected:
    return Expected("keep", reason=reason, culprit=culprit)


@dataclass(frozen=True)
class Situation:
    """A small graph with a known answer.

    Args:
        name: what it shows.
        build: makes the model.
        norms: the expected decision of each BatchNormalization, by name.
        affines: those of affine operations that go; none other may.
        after: operator types after the fold, where that is more than the sources gone.
        freeze: opened with ``--freeze-initializers``.
        sizes: sizes to compare at, (first dynamic axis, others).
        runs: whether onnxruntime executes it.
        doubles: whether it can be converted to float64 for an exact comparison.
    """

    name: str
    build: Callable[[], onnx.ModelProto]
    norms: dict[str, Expected]
    affines: dict[str, Expected] = field(default_factory=dict)
    after: str | None = None
    freeze: bool = False
    sizes: tuple[tuple[int, int], ...] = ((1, 6), (2, 7), (3, 9))
    runs: bool = True
    doubles: bool = True
    tolerance: float = 2e-5

    def __str__(self) -> str:
        return self.name

    def operators_after(self) -> Counter[str]:
        if self.after is not None:
            return Counter(self.after.split())
        model = self.build()
        kinds = {n.name or n.output[0]: n.op_type for n in all_nodes(model.graph)}
        gone = [
            kinds[name]
            for name, expected in (*self.norms.items(), *self.affines.items())
            if expected.action != "keep"
        ]
        return operators(model.graph) - Counter(gone)


def all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of a graph and of the bodies in it."""
    found = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            for body in [attribute.g, *attribute.graphs]:
                found += all_nodes(body)
    return found


def operators(graph: onnx.GraphProto) -> Counter[str]:
    return Counter(node.op_type for node in all_nodes(graph))


def body(net: Net, *outputs: str, name: str = "body") -> onnx.GraphProto:
    """The nodes of ``net`` as the body of control flow."""
    infos = [helper.make_tensor_value_info(o, net.dtype, None) for o in outputs]
    return helper.make_graph(net.nodes, name, net.inputs, infos, net.initializers)


def per_channel(values: NDArray[Any], rank: int = 4) -> NDArray[Any]:
    """A vector shaped to broadcast along axis 1."""
    shape = [1] * rank
    shape[1] = -1
    return values.reshape(shape)


Builder = Callable[[], onnx.ModelProto]


class Table(list[Situation]):
    """Situations of one family; ``add`` registers the builder below it under its own name."""

    def add(
        self, norms: dict[str, Expected], name: str | None = None, **facts: Any
    ) -> Callable[[Builder], Builder]:
        def register(build: Builder) -> Builder:
            self.append(Situation(name or build.__name__, build, norms, **facts))
            return build

        return register
