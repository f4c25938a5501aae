"""For every rule one network on which it fires, and its nearest healthy neighbour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from bnfold.audit import Observed

from .networks import (
    conv,
    conv_bn,
    healthy,
    network,
    norm,
    op,
    seen,
    tensor,
    with_first,
)


@dataclass(frozen=True)
class Sample:
    """Two models, and what was observed on data where the rule asks for it."""

    sick: Callable[[], onnx.ModelProto]
    healthy: Callable[[], onnx.ModelProto]
    sick_data: Callable[[], Mapping[str, Observed]] | None = None
    healthy_data: Callable[[], Mapping[str, Observed]] | None = None


def _variances(sick: float, healthy_value: float) -> Sample:
    return Sample(
        lambda: conv_bn(with_first("variance", sick)),
        lambda: conv_bn(with_first("variance", healthy_value)),
    )


def _untouched(variance: float) -> onnx.ModelProto:
    parameters = healthy()
    parameters["mean"][:] = 0
    parameters["variance"][:] = 1
    parameters["variance"][0] = variance
    return conv_bn(parameters)


def _quiet_weights(gain: float) -> onnx.ModelProto:
    """The first two channels are multiplied by ``gain``."""
    parameters = healthy()
    parameters["scale"][:2] = gain
    return conv_bn(parameters)


def _half(scale: float) -> onnx.ModelProto:
    """Half-precision weights in front of a BatchNorm with a scale that may be too much for them."""
    parameters = healthy()
    parameters["scale"][:] = scale
    model = conv_bn(parameters)
    weight = next(t for t in model.graph.initializer if t.name == "conv.weight")
    values = onnx.numpy_helper.to_array(weight)
    model.graph.initializer.remove(weight)
    model.graph.initializer.append(tensor("conv.weight", values, "float16"))
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["x"], ["h"], "down", to=10))
    model.graph.node[1].input[0] = "h"
    return model


def _between(before: str, after: str) -> onnx.ModelProto:
    return network(
        op(before, "x", "a") if before else conv("conv", "x", "a"),
        norm("bn", "a", "b"),
        op(after, "b", "y"),
    )


def _pre_activation(*, shared: bool) -> onnx.ModelProto:
    """Whether the skip connection reads the sum as well, through what takes no other gauge, or not."""
    return network(
        conv("c1", "x", "p"),
        conv("c2", "x", "q"),
        op("Add", ["p", "q"], "a"),
        norm("bn", "a", "b"),
        op("Relu", "b", "r"),
        conv("c3", "r", "c"),
        op("Sigmoid", ["a" if shared else "x"], "s"),
        op("Add", ["s", "c"], "y"),
    )


def _shared(*, twice: bool) -> onnx.ModelProto:
    outputs = ("y", "a") if twice else ("y",)
    return network(
        conv("conv", "x", "a"), norm("bn", "a", "b"), op("Relu", "b", "y"), outputs=outputs
    )


def _padded(pad: int) -> onnx.ModelProto:
    pads = {"kernel": 3, "pads": [pad] * 4} if pad else {"kernel": 3}
    return network(
        op("Relu", "x", "a"),
        norm("bn", "a", "b"),
        conv("conv", "b", "c", **pads),
        op("Relu", "c", "y"),
    )


def _computed(*, constant: bool) -> onnx.ModelProto:
    """The variance is computed from the input, or stored."""
    model = conv_bn()
    if not constant:
        shape = [onnx.helper.make_node("GlobalAveragePool", ["x"], ["g"], "pool")]
        shape.append(
            onnx.helper.make_node("ReduceMean", ["g"], ["v"], "flat", axes=[0, 2, 3], keepdims=0)
        )
        for node in reversed(shape):
            model.graph.node.insert(0, node)
        model.graph.node[3].input[4] = "v"
    return model


def _two_layers(second: str | None) -> onnx.ModelProto:
    return network(
        conv("c1", "x", "a"), norm("b1", "a", "b"), op("Relu", "b", "r"),
        conv("c2", "r", "c", weight=second), norm("b2", "c", "y"),
    )  # fmt: skip


def _biased(*, bias: bool) -> onnx.ModelProto:
    return network(conv("conv", "x", "a", bias=bias), norm("bn", "a", "b"), op("Relu", "b", "y"))


def _lrn(*, beside: bool) -> onnx.ModelProto:
    parts = [conv("conv", "x", "a"), norm("bn", "a", "b"), op("Relu", "b", "r")]
    if beside:
        return network(*parts, op("LRN", "r", "y", size=3))
    return network(*parts, conv("next", "r", "c"), op("LRN", "c", "y", size=3))


def _affines(shape: tuple[int, ...]) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    return network(
        conv("conv", "x", "a"),
        (
            onnx.helper.make_node("Mul", ["a", "m"], ["b"], "mul"),
            [tensor("m", rng.normal(size=shape))],
        ),
        (
            onnx.helper.make_node("Add", ["b", "s"], ["y"], "add"),
            [tensor("s", rng.normal(size=shape))],
        ),
    )


def _layer_norm(*, computed: bool) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    parts = [op("ReduceMean", "x", "m", axes=[1]), op("Sub", ["x", "m"], "d")]
    if computed:
        parts += [op("Mul", ["d", "d"], "q"), op("ReduceMean", "q", "v", axes=[1])]
        parts += [op("Sqrt", "v", "r"), op("Div", ["d", "r"], "n")]
    else:
        parts += [conv("conv", "d", "n")]
    scale, shift = tensor("g", rng.normal(size=(8, 1, 1))), tensor("s", rng.normal(size=(8, 1, 1)))
    parts.append((onnx.helper.make_node("Mul", ["n", "g"], ["h"], "mul"), [scale]))
    parts.append((onnx.helper.make_node("Add", ["h", "s"], ["y"], "add"), [shift]))
    return network(*parts)


def _epsilons(first: float, second: float) -> onnx.ModelProto:
    return network(
        conv("c1", "x", "a"), norm("b1", "a", "b", epsilon=first), op("Relu", "b", "r"),
        conv("c2", "r", "c"), norm("b2", "c", "y", epsilon=second),
    )  # fmt: skip


def _drift(sick: Mapping[str, float], calm: Mapping[str, float]) -> Sample:
    def data(changes: Mapping[str, float]) -> Callable[[], Mapping[str, Observed]]:
        count = int(changes.get("count", 10_000))
        shift, factor = changes.get("shift", 0.0), changes.get("factor", 1.0)
        return lambda: {"bn": seen(healthy(), shift=shift, factor=factor, count=count)}

    return Sample(conv_bn, conv_bn, data(sick), data(calm))


def _one_channel(shift: float) -> Mapping[str, Observed]:
    parameters = healthy(64)
    found = seen(parameters)
    found.mean[5] += shift * np.sqrt(parameters["variance"][5])
    return {"bn": found}


def _wide() -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    weight = tensor("wide.weight", rng.normal(0, 0.5, (64, 8, 1, 1)))
    node = onnx.helper.make_node("Conv", ["x", "wide.weight"], ["a"], "wide")
    return network((node, [weight]), norm("bn", "a", "y", healthy(64)))


SAMPLES: dict[str, Sample] = {
    "BN101": Sample(
        lambda: conv_bn(with_first("mean", np.nan)), lambda: conv_bn(with_first("mean", 1e30))
    ),
    "BN102": _variances(-0.1, 0.0),
    "BN103": Sample(
        lambda: conv_bn(with_first("variance", 0.0), epsilon=0.0),
        lambda: conv_bn(with_first("variance", 0.0)),
    ),
    "BN104": _variances(1e-6, 0.1),
    "BN105": Sample(lambda: _untouched(1.0), lambda: _untouched(1.001)),
    "BN106": _variances(1e-40, 1e-3),
    "BN107": Sample(
        lambda: conv_bn(with_first("scale", 0.0)), lambda: conv_bn(with_first("scale", 0.01))
    ),
    "BN108": Sample(lambda: _quiet_weights(1e-3), lambda: _quiet_weights(0.1)),
    "BN109": Sample(lambda: _half(1e6), lambda: _half(10.0)),
    "BN110": _variances(1e5, 6e4),
    "BN201": Sample(lambda: _training(1), lambda: _training(0)),
    "BN202": Sample(
        lambda: network(conv("conv", "x", "a"), norm("bn", "a", "y"), overridable=True),
        lambda: network(conv("conv", "x", "a"), norm("bn", "a", "y")),
    ),
    "BN203": Sample(lambda: _between("Sigmoid", "Sigmoid"), lambda: _between("", "Sigmoid")),
    "BN204": Sample(lambda: _pre_activation(shared=True), lambda: _pre_activation(shared=False)),
    "BN205": Sample(lambda: _shared(twice=True), lambda: _shared(twice=False)),
    "BN206": Sample(lambda: _padded(1), lambda: _padded(0)),
    "BN207": Sample(lambda: _computed(constant=False), lambda: _computed(constant=True)),
    "BN208": Sample(lambda: _two_layers("c1.weight"), lambda: _two_layers(None)),
    "BN209": Sample(lambda: _biased(bias=True), lambda: _biased(bias=False)),
    "BN210": Sample(lambda: _dropout(directly=True), lambda: _dropout(directly=False)),
    "BN211": Sample(lambda: _lrn(beside=True), lambda: _lrn(beside=False)),
    "BN212": Sample(lambda: _affines((1, 8, 1, 1)), lambda: _affines((1,))),
    "BN213": Sample(lambda: _layer_norm(computed=True), lambda: _layer_norm(computed=False)),
    "BN301": Sample(lambda: _epsilons(1e-3, 1e-5), lambda: _epsilons(1e-5, 1.0000001e-5)),
    "BN302": Sample(lambda: conv_bn(epsilon=0.1), lambda: conv_bn(epsilon=1e-2)),
    "BN303": Sample(lambda: conv_bn(momentum=1.0), lambda: conv_bn(momentum=0.99)),
    "BN304": Sample(lambda: _half(1.0), conv_bn),
    "BN401": _drift({"shift": 0.6}, {"shift": 0.3}),
    "BN402": _drift({"factor": 2.5}, {"factor": 1.5}),
    "BN403": Sample(_wide, _wide, lambda: _one_channel(3.0), lambda: _one_channel(1.0)),
    "BN404": _drift({"factor": 2.5}, {"factor": 1.5}),
    "BN405": _drift({"count": 16}, {"count": 1000}),
}


def _training(mode: int) -> onnx.ModelProto:
    return conv_bn(training_mode=mode)


def _dropout(*, directly: bool) -> onnx.ModelProto:
    if directly:
        return network(conv("conv", "x", "a"), op("Dropout", "a", "d"), norm("bn", "d", "y"))
    return network(op("Dropout", "x", "d"), conv("conv", "d", "a"), norm("bn", "a", "y"))
