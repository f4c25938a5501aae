"""Random networks of doubles from the seven kinds, several operators deep, with shared values.

Every choice is drawn by hypothesis, so that it can shrink a counterexample; weights come from a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto

from situations.build import Net, per_channel

SIZE = 8

Maker = Callable[["Grower", "Value"], "list[Value]"]
Makers = tuple[tuple[Maker, ...], tuple[Maker, ...]]


@dataclass(frozen=True)
class Value:
    """A map of some channels; two of equal ``space`` have equal sizes, whatever the input's are."""

    name: str
    channels: int
    space: tuple[str, ...] = ()
    rank: int = 4

    @property
    def size(self) -> int:
        """Height and width where the input's are `SIZE`."""
        size = SIZE
        for change in self.space:
            factor, more = CHANGES[change]
            size = factor * size + more
        return size


# What each change of space does to a size: a factor, and what is added.
CHANGES = {
    "shrunk": (1, -2), "grown": (1, 2), "up2": (2, 0), "up3": (1, 2), "padded": (1, 1),
    "twice": (2, 0), "deepDCR": (2, 0), "deepCRD": (2, 0), "pool0": (1, -1), "pool1": (1, 1),
    "max": (1, -1), "point": (0, 1), "vector": (0, 1),
}  # fmt: skip
LARGE = 20


class Grower:
    """Adds one random operator after another to a graph.

    Args:
        draw: hypothesis's choice.
        dynamic: whether height and width are dynamic, as the batch always is.
        makers: the operators to choose from, for maps and for vectors.
    """

    def __init__(self, draw: st.DrawFn, dynamic: bool, makers: Makers) -> None:
        self.draw, self.dynamic, self.makers = draw, dynamic, makers
        self.net = Net(dtype=TensorProto.DOUBLE, seed=draw(st.integers(0, 7)))
        size = ("H", "W") if dynamic else (SIZE, SIZE)
        self.values = [Value(self.net.input("N", 4, *size), 4)]
        self.count = 0
        if self.chance():
            self.values += conv(self, self.values[0])

    def chance(self, *options: bool) -> bool:
        """Even odds, unless ``options`` are given."""
        return self.draw(st.sampled_from(options or (False, True)))

    def name(self, op: str) -> str:
        self.count += 1
        return f"{op}{self.count}"

    def emit(
        self, op: str, x: Value, *more: str, space: str | None = None, **attributes: Any
    ) -> Value:
        y = self.net.op(op, x.name, *more, name=self.name(op), **attributes)
        return Value(y, x.channels, x.space if space is None else (*x.space, space), x.rank)

    def step(self) -> None:
        """One more operator on one of the last values."""
        back = min(self.draw(st.sampled_from((1, 1, 1, 2, 3))), len(self.values))
        x = self.values[-back]
        make = self.draw(st.sampled_from(self.makers[x.rank == 2]))
        self.values += make(self, x)

    def model(self) -> onnx.ModelProto:
        read = {name for node in self.net.nodes for name in node.input}
        ends = [v.name for v in self.values[1:] if v.name not in read]
        if self.chance(False, False, False, True) and len(self.values) > 3:
            ends.append(self.values[-2].name)
        return self.net.model(*dict.fromkeys(ends))


def norm(g: Grower, x: Value) -> list[Value]:
    """Sometimes without a shift, of one sign, or of one scale: each opens another way."""
    form = g.draw(st.sampled_from(("any", "any", "any", "scale", "shift", "positive", "even")))
    vectors: dict[str, dict[str, Any]] = {
        "any": {},
        "scale": {"shift": 0.0, "mean": 0.0},
        "shift": {"scale": 1.0, "variance": 1.0, "epsilon": 0.0},
        "positive": {"scale": g.net.rng.uniform(0.5, 1.5, x.channels)},
        "even": {"scale": 1.25, "shift": 0.5, "mean": 0.25, "variance": 2.0},
    }
    y = g.net.bn(x.name, x.channels, g.name("bn"), **vectors[form])
    return [Value(y, x.channels, x.space, x.rank)]


def affine(g: Grower, x: Value) -> list[Value]:
    op = g.draw(st.sampled_from(("Mul", "Add", "Sub", "Div")))
    shapes: list[tuple[int, ...]] = [(), (1,), (1, x.channels, *[1] * (x.rank - 2))]
    if x.rank == 4 and not g.dynamic and not x.space:
        shapes.append((SIZE,))  # along the last axis, which no channel is
    k = g.net.weight(*g.draw(st.sampled_from(shapes)), low=0.5, high=1.5)
    left = g.chance() and op != "Div"
    y = g.net.op(op, *([k, x.name] if left else [x.name, k]), name=g.name(op))
    return [Value(y, x.channels, x.space, x.rank)]


def conv(g: Grower, x: Value) -> list[Value]:
    kernel, pad = g.draw(st.sampled_from(((1, 0), (3, 0), (3, 1), (1, 1))))
    if x.size < 3:
        kernel, pad = 1, 0
    outputs = g.draw(st.sampled_from((4, 2)))
    group = 2 if g.chance() and x.channels % 2 == 0 else 1
    space = {(1, 0): (), (3, 1): (), (3, 0): ("shrunk",), (1, 1): ("grown",)}[kernel, pad]
    y = g.net.conv(
        x.name, x.channels, outputs, (kernel, kernel), g.name("conv"), bias=g.chance(),
        group=group, pads=[pad] * 4,
    )  # fmt: skip
    return [Value(y, outputs, x.space + space)]


def transposed(g: Grower, x: Value) -> list[Value]:
    if x.size > LARGE:
        return relu(g, x)
    kernel, stride = g.draw(st.sampled_from(((1, 1), (2, 2), (3, 1))))
    weight = g.net.weight(x.channels, 3, kernel, kernel)
    space = f"up{kernel}" if kernel > 1 else None
    y = g.emit("ConvTranspose", x, weight, space=space, strides=[stride, stride])
    return [Value(y.name, 3, y.space)]


def relu(g: Grower, x: Value) -> list[Value]:
    return [g.emit(g.draw(st.sampled_from(("Relu", "Sigmoid", "Identity", "Neg"))), x)]


def pad(g: Grower, x: Value) -> list[Value]:
    if x.size < 2:
        return relu(g, x)
    mode = g.draw(st.sampled_from(("edge", "reflect", "constant", "constant")))
    more = [g.net.const(np.float64(0.5))] if mode == "constant" and g.chance() else []
    amounts = g.net.ints(0, 0, 1, 0, 0, 0, 0, 1)
    return [g.emit("Pad", x, amounts, *more, space="padded", mode=mode)]


def pick(g: Grower, x: Value) -> list[Value]:
    """Channels in another order, some left out or twice."""
    order = g.draw(st.lists(st.integers(0, x.channels - 1), min_size=1, max_size=4))
    y = g.emit("Gather", x, g.net.ints(*order), axis=1)
    return [Value(y.name, len(order), y.space)]


def cut(g: Grower, x: Value) -> list[Value]:
    if g.chance():  # rows backwards
        return [g.emit("Slice", x, *map(g.net.ints, (-1, -99, 2, -1)))]
    start = g.draw(st.integers(0, x.channels - 1))
    y = g.emit("Slice", x, *map(g.net.ints, (start, x.channels, 1)))
    return [Value(y.name, x.channels - start, y.space)]


def split(g: Grower, x: Value) -> list[Value]:
    if x.channels < 2:
        return relu(g, x)
    first = g.draw(st.integers(1, x.channels - 1))
    name, sizes = g.name("split"), g.net.ints(first, x.channels - first)
    if g.chance():
        y = g.net.op("Split", x.name, sizes, name=name, outputs=2, axis=1)
        parts = [y, f"{y}1"]
    else:
        cut = g.net.op("SplitToSequence", x.name, sizes, name=name, axis=1)
        places = [g.net.const(np.array(i)) for i in (0, -1)]
        parts = [g.net.op("SequenceAt", cut, i, name=g.name("entry")) for i in places]
    channels = first, x.channels - first
    return [Value(y, n, x.space, x.rank) for y, n in zip(parts, channels, strict=True)]


def reshape(g: Grower, x: Value) -> list[Value]:
    """Channel shuffle, or a flattened map and back, by way of Shape."""
    size = g.net.op("Shape", x.name, name=g.name("size"))
    if x.channels % 2 == 0 and g.chance():
        apart = g.emit("Reshape", x, g.net.ints(0, 2, x.channels // 2, -1))
        mixed = g.emit("Transpose", apart, perm=[0, 2, 1, 3])
        return [g.emit("Reshape", mixed, size)]
    flat = g.emit("Reshape", x, g.net.ints(0, 0, -1))
    return [g.emit("Reshape", flat, size)]


def resize(g: Grower, x: Value) -> list[Value]:
    if x.size > LARGE:
        return relu(g, x)
    scales = g.net.const(np.array([1, 1, 2, 2], np.float32), dtype=np.float32)
    return [g.emit("Resize", x, "", scales, space="twice", mode="nearest")]


def depth(g: Grower, x: Value) -> list[Value]:
    if x.channels != 4 or x.size > LARGE:
        return relu(g, x)
    mode = g.draw(st.sampled_from(("DCR", "CRD")))
    y = g.emit("DepthToSpace", x, space=f"deep{mode}", blocksize=2, mode=mode)
    return [Value(y.name, 1, y.space)]


def pool(g: Grower, x: Value) -> list[Value]:
    if x.size < 2:
        return relu(g, x)
    pad, counted = g.draw(st.sampled_from(((0, 0), (0, 1), (1, 0), (1, 1))))
    more = {"pads": [pad] * 4, "count_include_pad": counted, "kernel_shape": [2, 2]}
    return [g.emit("AveragePool", x, space=f"pool{pad}", **more)]


def maximum(g: Grower, x: Value) -> list[Value]:
    if x.size < 2:
        return relu(g, x)
    return [g.emit("MaxPool", x, space="max", kernel_shape=[2, 2])]


def mean(g: Grower, x: Value) -> list[Value]:
    y = g.emit("GlobalAveragePool", x)
    if g.chance():
        flat = g.net.op("Flatten", y.name, name=g.name("flat"))
        return [Value(flat, x.channels, ("vector",), 2)]
    return [Value(y.name, x.channels, ("point",))]


def join(g: Grower, x: Value) -> list[Value]:
    """Concat or a sum with an earlier value of the same sizes."""
    others = [v for v in g.values if v.space == x.space and v.rank == x.rank]
    other = g.draw(st.sampled_from(others))
    if g.chance() or other.channels != x.channels:
        y = g.net.op("Concat", x.name, other.name, name=g.name("concat"), axis=1)
        return [Value(y, x.channels + other.channels, x.space, x.rank)]
    op = g.draw(st.sampled_from(("Add", "Sub", "Sum", "Mean")))
    third = (
        [g.net.const(per_channel(g.net.rng.uniform(-1, 1, x.channels), x.rank))]
        if op in ("Sum", "Mean")
        else []
    )
    return [g.emit(op, x, other.name, *third)]


def einsum(g: Grower, x: Value) -> list[Value]:
    """A product over the channels, or one that only looks like it."""
    equation, left = g.draw(st.sampled_from(("nchw,oc->nohw", "nchw,co->nohw"))), g.chance()
    shape = (3, x.channels) if "oc" in equation else (x.channels, 3)
    operands = [x.name, g.net.weight(*shape)]
    if left:
        terms = equation.split("->")[0].split(",")
        equation, operands = f"{terms[1]},{terms[0]}->nohw", operands[::-1]
    y = g.net.op("Einsum", *operands, name=g.name("einsum"), equation=equation)
    return [Value(y, 3, x.space)]


def gemm(g: Grower, x: Value) -> list[Value]:
    bias = [g.net.weight(*g.draw(st.sampled_from(((3,), (1,), (), (1, 3)))))] if g.chance() else []
    weight = g.net.weight(x.channels, 3)
    if g.chance():
        y = g.net.op("MatMul", x.name, weight, name=g.name("matmul"))
    else:
        y = g.net.op("Gemm", x.name, weight, *bias, name=g.name("gemm"), alpha=0.5, beta=2.0)
    return [Value(y, 3, x.space, 2)]


MAPS: tuple[Maker, ...] = (
    norm, norm, norm, norm, conv, conv, conv, affine, relu, transposed, pad, pick, cut, split,
    reshape, resize, depth, pool, maximum, mean, join, join, einsum,
)  # fmt: skip
VECTORS: tuple[Maker, ...] = (norm, norm, gemm, gemm, affine, relu, join)


@st.composite
def networks(
    draw: st.DrawFn, least: int = 3, most: int = 10, makers: Makers = (MAPS, VECTORS)
) -> onnx.ModelProto:
    """A network of ``least`` to ``most`` random operators."""
    grower = Grower(draw, draw(st.booleans()), makers)
    for _ in range(draw(st.integers(least, most))):
        grower.step()
    return grower.model()
