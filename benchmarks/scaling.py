"""How plan and edit grow with the network, as a Markdown table.

    python -m benchmarks.scaling [--subjects chain preact ...] [--doublings 3]

Each network is made at sizes that double, and read, planned and edited in a process of its own: CPU
seconds, the exponent from one size to the next (1 is linear), and the peak memory above
what the imports take.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Builder:
    """A network of four channels on 6 x 6 pixels."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def _tensor(self, array: np.ndarray) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}:0"], name, **attributes))
        return f"{name}:0"

    def conv(self, x: str, channels: int = 4, *, group: int = 1, kernel: int = 1) -> str:
        weight = self.rng.uniform(-1, 1, (4, channels // group, kernel, kernel))
        return self.op("Conv", x, self._tensor(weight), group=group, pads=[kernel // 2] * 4)

    def norm(self, x: str, channels: int = 4) -> str:
        vectors = [
            self.rng.uniform(*ends, channels) for ends in ((0.5, 2), (-1, 1), (-1, 1), (0.5, 2))
        ]
        return self.op("BatchNormalization", x, *map(self._tensor, vectors))

    def relu(self, x: str) -> str:
        return self.op("Relu", x)

    def model(self, y: str) -> onnx.ModelProto:
        ends = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in (("x", [1, 4, 6, 6]), (y, None))
        ]
        graph = helper.make_graph(self.nodes, "net", ends[:1], ends[1:], self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain(n: int) -> onnx.ModelProto:
    """Convolution and BatchNorm, ``n`` times."""
    net, x = Builder(), "x"
    for _ in range(n):
        x = net.norm(net.conv(x))
    return net.model(x)


def row(n: int) -> onnx.ModelProto:
    """``n`` BatchNorm in a row behind a convolution and in front of a rectifier."""
    net = Builder()
    x = net.conv("x")
    for _ in range(n):
        x = net.norm(x)
    return net.model(net.relu(x))


def lone_row(n: int) -> onnx.ModelProto:
    """``n`` BatchNorm in a row between two activations: they are merged."""
    net = Builder()
    x = net.op("Sigmoid", "x")
    for _ in range(n):
        x = net.norm(x)
    return net.model(net.op("Sigmoid", x))


def stay(n: int) -> onnx.ModelProto:
    """``n`` BatchNorm between activations: all stay."""
    net, x = Builder(), "x"
    for _ in range(n):
        x = net.op("Sigmoid", net.norm(net.op("Tanh", x)))
    return net.model(x)


def preact(n: int) -> onnx.ModelProto:
    """A trunk of ``n`` pre-activation blocks."""
    net = Builder()
    x = net.conv("x")
    for _ in range(n):
        y = net.conv(net.relu(net.norm(x)), kernel=3)
        x = net.op("Add", x, y)
    return net.model(net.conv(x))


def concat(n: int) -> onnx.ModelProto:
    """A dense block of ``n`` layers: each reads what all before it have made."""
    net = Builder()
    made = [net.conv("x")]
    for i in range(n):
        joined = net.op("Concat", *made, axis=1) if len(made) > 1 else made[0]
        made.append(net.conv(net.relu(net.norm(joined, 4 * (i + 1))), 4 * (i + 1), kernel=3))
    return net.model(net.op("Concat", *made, axis=1))


def gated(n: int) -> onnx.ModelProto:
    """A trunk of ``n`` blocks with squeeze-and-excite gates and BatchNorm behind the sums."""
    net = Builder()
    x = net.conv("x")
    for _ in range(n):
        y = net.relu(net.norm(net.conv(net.norm(x), kernel=3)))
        gate = net.op("Sigmoid", net.conv(net.op("GlobalAveragePool", y)))
        x = net.op("Add", x, net.op("Mul", y, gate))
    return net.model(net.conv(x))


SUBJECTS: dict[str, tuple[Callable[[int], onnx.ModelProto], int]] = {
    "chain": (chain, 2500),
    "row": (row, 1200),
    "lone_row": (lone_row, 1200),
    "stay": (stay, 1200),
    "preact": (preact, 625),
    "concat": (concat, 25),
    "gated": (gated, 300),
}


def measure(path: Path) -> dict[str, float]:
    """What one file costs, in this process."""
    import bnfold
    from bnfold.formats import format_of
    from bnfold.planning import make_plan
    from bnfold.startup import collect_rarely

    collect_rarely()  # as the command line does
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = [time.process_time()]
    model = bnfold.load(path)
    graph = model.graph
    times.append(time.process_time())
    plan = make_plan(graph)
    times.append(time.process_time())
    format_of(model).edit(model, plan)
    times.append(time.process_time())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    read, planned, edited = (b - a for a, b in pairwise(times))
    return {"read": read, "plan": planned, "edit": edited, "MB": peak / 1024, "left": plan.kept}


def measured(subject: str, n: int) -> dict[str, float]:
    """The same in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(SUBJECTS[subject][0](n), path)
        command = [sys.executable, "-m", "benchmarks.scaling", "--measure", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", nargs="*", default=list(SUBJECTS), choices=SUBJECTS)
    parser.add_argument("--doublings", type=int, default=3)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    print("| network | n | BN left | read s | plan s | edit s | plan + edit, exponent | MB |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for subject in arguments.subjects:
        first = SUBJECTS[subject][1]
        last = 0.0
        for n in (first << i for i in range(arguments.doublings + 1)):
            found = measured(subject, n)
            total = found["plan"] + found["edit"]
            exponent = f"{math.log2(total / last):.2f}" if last else ""
            last = total
            cells = [f"{found[k]:.2f}" for k in ("read", "plan", "edit")]
            row = [subject, str(n), f"{found['left']:.0f}", *cells, exponent, f"{found['MB']:.0f}"]
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
