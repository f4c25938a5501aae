"""Networks with random weights and the shapes of known ones, written without holding them in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_FOUR = 4
_VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


class _Writer:
    """Nodes and initializers of a network in the making; large weights may go to a data file."""

    def __init__(self, data: Path | None = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(0)
        self.data = data
        self.value = "input"
        if data is not None:
            data.write_bytes(b"")

    def weight(self, name: str, shape: tuple[int, ...]) -> str:
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        array = self.rng.standard_normal(shape, np.float32) * scale
        tensor = numpy_helper.from_array(array, name)
        if self.data is not None:
            offset = self.data.stat().st_size
            with self.data.open("ab") as file:
                file.write(array.tobytes())
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            place = (("location", self.data.name), ("offset", offset), ("length", array.nbytes))
            for key, value in place:
                tensor.external_data.add(key=key, value=str(value))
        self.tensors.append(tensor)
        return name

    def node(self, op: str, *inputs: str, **settings: object) -> None:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [self.value, *inputs], [name], name, **settings))
        self.value = name

    def conv_block(self, before: int, after: int) -> None:
        name = f"layer{len(self.nodes)}"
        weight = self.weight(f"{name}.weight", (after, before, 3, 3))
        self.node("Conv", weight, pads=[1] * _FOUR)
        parameters = []
        for part in ("scale", "shift", "mean", "variance"):
            array = self.rng.uniform(0.5, 1.5, after).astype(np.float32)
            self.tensors.append(numpy_helper.from_array(array, f"{name}.{part}"))
            parameters.append(f"{name}.{part}")
        self.node("BatchNormalization", *parameters)
        self.node("Relu")

    def save(self, path: Path, channels: int, size: int) -> Path:
        graph = helper.make_graph(
            self.nodes,
            "made",
            [helper.make_tensor_value_info("input", 1, ["batch", channels, size, size])],
            [helper.make_tensor_value_info(self.value, 1, None)],
            self.tensors,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, path)
        return path


def vgg16_bn(path: Path) -> Path:
    """VGG16-BN, 553 MB, of which 124 of 138 million weights stand in layers without BatchNorm."""
    net, channels = _Writer(), 3
    for width in _VGG16:
        if width:
            net.conv_block(channels, width)
            channels = width
        else:
            net.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    net.node("Flatten")
    for place, (before, after) in enumerate(((25088, 4096), (4096, 4096), (4096, 1000))):
        net.node("Gemm", net.weight(f"classifier{place}", (after, before)), transB=1)
    return net.save(path, 3, 224)


def large_convolutions(path: Path, gigabytes: float) -> Path:
    """Convolutions of 1,024 channels with external data, each followed by a BatchNorm."""
    net = _Writer(path.with_name(f"{path.name}.data"))
    for _ in range(max(1, round(gigabytes * 1e9 / (1024 * 1024 * 9 * 4)))):
        net.conv_block(1024, 1024)
    return net.save(path, 1024, 8)
