"""What a BatchNorm costs a quantised network, and what folding it first, or afterwards, brings.

    python -m benchmarks.quantisation

Static quantisation: onnxruntime's `quantize_static` (QDQ, uint8 values, int8 weights per channel, its
own pre-processing first, which folds what it can) on the sample models as they are, and after `bnfold fold`.
Fake quantisation: what quantisation-aware training leaves, Q and DQ in front of every layer, at its
input and at its weight, and in front of every addition; a float BatchNorm behind it; and that file
after `bnfold fold`.

Counted in the file, and once onnxruntime has put its integer kernels in place. Accuracy is on the 450
digits of `sample_models/digits_test.npz`; ranges come from the 512 of `digits_calibration.npz`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

import bnfold

SAMPLES = Path(__file__).parents[1] / "sample_models"
# Not `transposed`: onnxruntime's quantiser fails on its transposed convolution in groups.
MODELS = ("residual", "preact", "repvgg", "mlp_bn_before", "mlp_bn_after")
LAYERS = ("Conv", "Gemm")
INTEGER = ("QLinearConv", "QGemm")
HEAD = (
    "network", "how", "BN in the file", "nodes", "Q/DQ pairs of values",
    "BN that run", "float layers that run", "integer layers that run", "accuracy",
)  # fmt: skip


def main() -> None:
    logging.disable(logging.WARNING)
    ort.set_default_logger_severity(3)
    print(f"onnxruntime {ort.__version__}\n\n| {' | '.join(HEAD)} |")
    print(f"|---|---|{'--:|' * (len(HEAD) - 2)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            for row in rows(SAMPLES / f"{name}.onnx", Path(folder)):
                print("| " + " | ".join(map(str, (name, *row))) + " |", flush=True)


def rows(source: Path, folder: Path) -> Iterator[tuple[Any, ...]]:
    """What becomes of one network in every way."""
    folded, fake = folder / "folded.onnx", folder / "fake.onnx"
    bnfold.fold(source, folded, reparameterize=True, force=True)
    yield "float", *described(source, folder)
    for how, model in (("static", source), ("static, folded first", folded)):
        target = folder / "static.onnx"
        prepared = folder / "prepared.onnx"
        quant_pre_process(str(model), str(prepared))
        quantize_static(
            str(prepared), str(target), Calibration(), quant_format=QuantFormat.QDQ,
            per_channel=True, reduce_range=True, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )  # fmt: skip
        yield how, *described(target, folder)
    onnx.save(fake_quantised(onnx.load(source)), fake)
    yield "fake", *described(fake, folder)
    result = bnfold.fold(fake, folded, force=True)
    assert result.ok
    yield "fake, folded", *described(folded, folder)


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """All calibration images, once."""

    def __init__(self) -> None:
        self._batches = iter([images("calibration")])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._batches, None)


def images(which: str) -> dict[str, NDArray[Any]]:
    with np.load(SAMPLES / f"digits_{which}.npz") as data:
        return {"image": data["image"]}


def described(model: Path, folder: Path) -> tuple[Any, ...]:
    """The columns of one file."""
    proto, running = onnx.load(model), folder / "running.onnx"
    session = run(model, running)
    with np.load(SAMPLES / "digits_test.npz") as data:
        scores = session.run(None, {"image": data["image"]})[0]
        accuracy = float((scores.argmax(1) == data["label"]).mean())
    kernels = [node.op_type for node in onnx.load(running).graph.node]
    made = {name for node in proto.graph.node for name in node.output}
    made |= {value.name for value in proto.graph.input}
    pairs = sum(n.op_type == "QuantizeLinear" and n.input[0] in made for n in proto.graph.node)
    return (
        sum(n.op_type == "BatchNormalization" for n in proto.graph.node),
        len(proto.graph.node),
        pairs,
        kernels.count("BatchNormalization"),
        sum(op in (*LAYERS, "FusedConv", "FusedGemm") for op in kernels),
        sum(op in INTEGER for op in kernels),
        f"{100 * accuracy:.1f} %",
    )


def run(model: Path, running: Path) -> ort.InferenceSession:
    """The model as onnxruntime deploys it, which it also writes to ``running``."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(running)
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def fake_quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Q and DQ in front of every layer and addition: uint8 values, int8 weights per output channel."""
    rounding = [node for node in model.graph.node if node.op_type in (*LAYERS, "Add")]
    values = [n for node in rounding for n in node.input[: 1 + (node.op_type == "Add")]]
    grids, weights = grids_of(model, values), model.graph.initializer
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in weights}
    made: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        for position, name in enumerate(node.input if node in rounding else ()):
            if position == 1 and node.op_type != "Add":
                axis = output_axis(node)
                others = tuple(i for i in range(stored[name].ndim) if i != axis)
                # Half the range: without VNNI, sums of products are held in 16 bits.
                scale = np.abs(stored[name]).max(axis=others) / 63
                nodes += pair(model, name, scale, np.zeros(scale.shape, np.int8), axis)
            elif name in grids and name not in made:
                nodes += pair(model, name, *grids[name], None)
                made[name] = nodes[-1].output[0]
            else:
                continue
            node.input[position] = nodes[-1].output[0]
        for position, name in enumerate(node.input if node in rounding else ()):
            node.input[position] = made.get(name, name)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def output_axis(node: onnx.NodeProto) -> int:
    settings = {a.name: a for a in node.attribute}
    if node.op_type == "Gemm":
        return 0 if "transB" in settings and settings["transB"].i else 1
    return 0 if node.op_type == "Conv" else 1


def pair(
    model: onnx.ModelProto, name: str, scale: Any, zero: NDArray[Any], axis: int | None
) -> list[onnx.NodeProto]:
    """A QuantizeLinear and a DequantizeLinear behind ``name``."""
    grid = [f"{name}_scale", f"{name}_zero"]
    for label, array in zip(grid, (np.asarray(scale, np.float32), zero), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(array, label))
    settings = {} if axis is None else {"axis": axis}
    return [
        helper.make_node("QuantizeLinear", [name, *grid], [f"{name}_q"], **settings),
        helper.make_node("DequantizeLinear", [f"{name}_q", *grid], [f"{name}_dq"], **settings),
    ]


def grids_of(
    model: onnx.ModelProto, names: list[str]
) -> dict[str, tuple[float, NDArray[np.uint8]]]:
    """Scale and zero point for inner values, from their range on the calibration images."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    fed, feeds = {i.name for i in copy.graph.input}, images("calibration")
    inner = list(dict.fromkeys(name for name in names if name not in fed))
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inner)
    session = ort.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip(inner, session.run(inner, feeds), strict=True)) | feeds
    grids = {}
    for name, array in found.items():
        low, high = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
        scale = (high - low) / 255
        grids[name] = scale, np.asarray(round(-low / scale), np.uint8)
    return grids


if __name__ == "__main__":
    main()
