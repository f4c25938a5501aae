"""Random layers with quantised weights before a norm, at every operator set that has them.

Checked with onnxruntime alone, as the deployment runs it: with its optimisations off, and with all of
them, which put integer kernels in place of most layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper

import bnfold
from situations.build import Net
from situations.fold import save
from situations.quantised import rounded

CHANNELS = 4
INPUT, OUTPUT = 0.05, 0.25
OPERATORS = ("Conv", "depthwise", "grouped", "ConvTranspose", "Gemm", "transB", "MatMul")
_TYPES = {"int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "int4": 4, "uint4": 4}
_FIRST = {"int16": 21, "uint16": 21, "int4": 21, "uint4": 21}


@dataclass(frozen=True)
class Layer:
    """What is drawn for one network."""

    opset: int
    operator: str
    dtype: str
    channelwise: bool
    zero: str  # absent, nought, one for all or one each
    fake: bool
    least: bool  # the least integer occurs
    signs: str
    bias: str
    rounds: bool  # values are quantised before and behind
    seed: int

    @property
    def is_matrix(self) -> bool:
        return self.operator in ("Gemm", "transB", "MatMul")

    @property
    def shape(self) -> tuple[int, ...]:
        kernel = () if self.is_matrix else (3, 3)
        inputs = {"depthwise": 1, "grouped": 2}.get(self.operator, CHANNELS)
        return (CHANNELS, inputs, *kernel)

    @property
    def axis(self) -> int:
        """Of the output channels."""
        return 1 if self.operator in ("ConvTranspose", "Gemm", "MatMul") else 0

    @property
    def limits(self) -> tuple[int, int]:
        bits, unsigned = _TYPES[self.dtype], self.dtype.startswith("u")
        return (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    opset = draw(st.integers(10, 23))
    dtypes = [d for d in _TYPES if opset >= _FIRST.get(d, 10)]
    return Layer(
        opset,
        draw(st.sampled_from(OPERATORS)),
        draw(st.sampled_from(dtypes)),
        opset >= 13 and draw(st.booleans()),
        draw(st.sampled_from(["absent", "nought", "one", "each"])),
        draw(st.integers(0, 3)) == 0,
        draw(st.booleans()),
        draw(st.sampled_from(["positive", "mixed", "uniform", "dead"])),
        draw(st.sampled_from(["none", "float", "steps", "other"])),
        draw(st.booleans()),
        draw(st.integers(0, 99)),
    )


def _integers(layer: Layer, zero: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Not the whole range of 8 bits: processors without VNNI add products up in 16 bits."""
    low, high = layer.limits
    most = min(60, (high - low) // 2)
    middle = np.clip(zero.astype(int), low + 1, high)
    found = middle + rng.integers(-most, most, layer.shape, endpoint=True)
    found = np.clip(found, low + (low < 0), high)
    if layer.least:
        found.reshape(-1)[-1] = low
    return np.asarray(found)


def _along(layer: Layer, vector: NDArray[Any]) -> NDArray[Any]:
    shape = [1] * len(layer.shape)
    shape[layer.axis] = -1
    return vector.reshape(shape) if vector.ndim else vector


def _weight(net: Net, layer: Layer) -> tuple[str, NDArray[Any]]:
    """The name of the dequantised weight, and its scales."""
    dtype = np.dtype(getattr(ml_dtypes, layer.dtype, layer.dtype))
    rng, (low, high) = net.rng, layer.limits
    size = (layer.shape[layer.axis],) if layer.channelwise else ()
    scale = rng.uniform(0.5, 1.5, size) * (2.0 / high)
    zero = np.zeros(size, int)
    if layer.zero in ("one", "each"):
        zero = np.broadcast_to(rng.integers(low, high, endpoint=True), size).copy()
    if layer.zero == "each" and size:
        zero = rng.integers(low, high, size, endpoint=True)
    integers = _integers(layer, _along(layer, zero), rng)
    grid = [net.const(np.asarray(scale, np.float32))]
    known = layer.zero != "absent" or (layer.fake and low < 0)
    grid += [net.const(zero.astype(dtype))] if known else []
    axis = {"axis": layer.axis} if layer.channelwise else {}
    if layer.fake:
        floats = integers - _along(layer, zero) + rng.uniform(-0.45, 0.45, layer.shape)
        floats = floats * _along(layer, scale)
        first = net.op("QuantizeLinear", net.const(floats), *grid, name="round", **axis)
    else:
        first = net.const(integers.astype(dtype))
    return net.op("DequantizeLinear", first, *grid, name="weight", **axis), scale


def _bias(net: Net, layer: Layer, scale: NDArray[Any]) -> list[str]:
    if layer.bias == "float":
        return [net.weight(CHANNELS)]
    steps = INPUT * scale if layer.bias == "steps" else np.asarray(0.01)
    axis = {"axis": 0} if steps.ndim else {}
    if steps.ndim and steps.size != CHANNELS:  # a transposed convolution in groups
        steps, axis = np.asarray(0.01), {}
    integers = net.const(net.rng.integers(-99, 99, CHANNELS), dtype=np.int32)
    scales = net.const(steps.astype(np.float32))
    return [net.op("DequantizeLinear", integers, scales, name="bias", **axis)]


def _norm(layer: Layer, rng: np.random.Generator) -> dict[str, Any]:
    scale = rng.uniform(0.5, 1.5, CHANNELS)
    if layer.signs in ("mixed", "dead"):
        scale *= rng.choice([-1, 1], CHANNELS)
    if layer.signs == "dead":
        scale[1] = 0
    if layer.signs == "uniform":
        return {"scale": 0.5 * rng.choice([-1, 1], CHANNELS), "variance": 1.0}
    return {"scale": scale}


def network(layer: Layer) -> onnx.ModelProto:
    net = Net(opset=layer.opset, seed=layer.seed)
    x = net.input("N", CHANNELS, *([] if layer.is_matrix else [6, 7]))
    x = rounded(net, x, INPUT) if layer.rounds else x
    weight, scale = _weight(net, layer)
    biased = layer.bias != "none" and layer.operator != "MatMul"
    bias = _bias(net, layer, scale) if biased else []
    more = {"transB": {"transB": 1}, "depthwise": {"group": CHANNELS}, "grouped": {"group": 2}}
    op = {"depthwise": "Conv", "grouped": "Conv", "transB": "Gemm"}.get(
        layer.operator, layer.operator
    )
    y = net.op(op, x, weight, *bias, name="layer", **more.get(layer.operator, {}))
    y = net.bn(y, CHANNELS, **_norm(layer, net.rng))
    end = net.relu(y)
    return net.model(y, rounded(net, end, OUTPUT, "end") if layer.rounds else end)


def run(model: Path, feeds: dict[str, Any], *, optimised: bool = False) -> list[NDArray[Any]]:
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, feeds)]


def check(layer: Layer, folder: Path) -> bool:
    """Whether it folds; whatever else there is to say of it is asserted."""
    source, target = save(network(layer), folder / "m.onnx"), folder / "f.onnx"
    result = bnfold.fold(source, target, force=True)
    assert result.ok, result.to_json()["verification"]
    reason = result.plan.batch_norms[0].reason
    if reason is not None:
        _check_reason(layer, reason.reason.code)
        return False
    sizes = () if layer.is_matrix else (6, 7)
    feeds = {"x": np.random.default_rng(1).standard_normal((9, CHANNELS, *sizes), np.float32)}
    before, after = run(source, feeds), run(target, feeds)
    kept = layer.bias == "steps" and layer.rounds
    step = _largest_step(target) if kept else 0.0
    error = np.abs(before[0] - after[0])
    assert error.max() <= 1e-5 * np.abs(before[0]).max() + 0.51 * step
    differ = np.abs(before[1] - after[1])
    assert differ.max() <= (1.001 * OUTPUT if layer.rounds else error.max())
    elsewhere = int((differ > 0.5 * OUTPUT).sum()) if layer.rounds else 0
    assert elsewhere <= 1 + differ.size * (0.01 + step / OUTPUT)
    fast = [run(model, feeds, optimised=True)[1] for model in (source, target)]
    # An integer kernel rounds its sums to the next step, and some kernels round what flows in.
    usual = np.abs(fast[0] - before[1]).max()
    allowed = 1.001 * OUTPUT if layer.rounds else 2 * usual + 1e-4 * np.abs(after[1]).max()
    assert np.abs(fast[1] - after[1]).max() <= allowed, (fast, after)
    return True


def _largest_step(target: Path) -> float:
    model = onnx.load(target)
    bias = [n for n in model.graph.node if n.name == "bias"]
    if not bias:
        return 0.0
    scale = next(t for t in model.graph.initializer if t.name == bias[0].input[1])
    return float(numpy_helper.to_array(scale).max())


def _check_reason(layer: Layer, code: str) -> None:
    """That what the report says of a norm that stays is so."""
    negative = layer.signs != "positive"
    symmetric = layer.limits[0] < 0
    if code == "quantized_range":
        assert negative and symmetric
    elif code == "quantized_per_tensor":
        assert layer.opset < 13
    else:
        raise AssertionError(code)


@pytest.mark.parametrize("part", range(3))
def test_random_layers(part: int, tmp_path: Path) -> None:
    folded = []

    @settings(
        max_examples=16,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(layers().filter(lambda layer: layer.seed % 3 == part))
    def law(layer: Layer) -> None:
        folded.append(check(layer, tmp_path))

    law()
    assert sum(folded) > len(folded) / 3


@pytest.mark.parametrize(("axis", "wrong"), [(0, False), (1, True)])
def test_why_scales_never_lie_along_input_channels(axis: int, wrong: bool, tmp_path: Path) -> None:
    """The runtime takes them for those of the outputs. Where it no longer does, the planner may."""
    net = Net()
    integers = net.const(net.rng.integers(-60, 60, (4, 4, 3, 3)), dtype=np.int8)
    scales = net.const(np.array([0.01, 0.02, 0.03, 0.015], np.float32))
    zeros = net.const(np.zeros(4), dtype=np.int8)
    weight = net.op("DequantizeLinear", integers, scales, zeros, name="weight", axis=axis)
    x = rounded(net, net.input("N", 4, 8, 8), INPUT)
    y = rounded(net, net.op("Conv", x, weight, name="layer"), OUTPUT, "end")
    source = save(net.model(y), tmp_path / "m.onnx")
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 4, 8, 8), np.float32)}
    (plain,), (fast,) = (run(source, feeds, optimised=optimised) for optimised in (False, True))
    error = np.abs(fast - plain).max()
    if wrong and error <= OUTPUT:
        pytest.skip("this onnxruntime reads the axis")
    assert bool(error > 8 * OUTPUT) is wrong
