"""What the page is made of: compact numbers, picked channels, bars, blocks, axes, and sizes."""

from __future__ import annotations

import base64
import json
from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest

from audit.networks import healthy, seen
from bnfold.algebra.affine import Array
from bnfold.audit import Drift
from bnfold.audit.thresholds import Thresholds
from bnfold.formats.onnx import OnnxModel
from bnfold.jobs import FoldResult, fold
from bnfold.kinds import Norm
from bnfold.reports.html.blocks import blocks_of
from bnfold.reports.html.channels import Channels, as_script, packed, picked_channels
from bnfold.reports.html.plot import Axis, Line, Plot
from bnfold.reports.html.strip import level

pytest.importorskip("jinja2")


def unpacked(text: str) -> Array:
    """As the script on the page reads it."""
    upper = np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, 3)
    whole = np.ascontiguousarray(np.pad(upper, ((0, 0), (0, 1))))
    return np.asarray(whole.view(">f4").ravel(), np.float64)


def test_numbers_keep_four_digits() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 1000) * 10.0 ** rng.integers(-30, 30, 1000)
    np.testing.assert_allclose(unpacked(packed(values)), values, rtol=2e-5)
    odd = np.array([0.0, np.nan, np.inf, -np.inf, 1e300, -np.nan])
    np.testing.assert_array_equal(
        unpacked(packed(odd)), [0.0, np.nan, np.inf, -np.inf, np.inf, np.nan]
    )
    assert len(packed(values)) == 4 * values.size


def _layer(channels: int, **changed: float) -> Channels:
    mean, variance = np.zeros(channels), np.linspace(1, 2, channels)
    now = mean + 0.01
    now[7] = changed.get("now", 0.01)
    mean[3] = changed.get("mean", 0.0)
    return Channels((mean, variance, variance, mean), (now, variance), 1e-5)


def test_few_channels_are_all_drawn() -> None:
    np.testing.assert_array_equal(picked_channels(_layer(10), 10), np.arange(10))


def test_of_many_channels_the_ends_the_strays_and_the_broken_stay() -> None:
    picked = picked_channels(_layer(1000, now=5.0, mean=np.nan), 40)
    assert {0, 999, 3, 7} <= set(picked.tolist())
    assert 30 <= picked.size <= 40
    assert set(picked_channels(_layer(1000), 40).tolist()) >= {0, 999}


def test_troubled_layers_have_more_channels() -> None:
    calm = Channels(_layer(5000).stored)
    troubled = Channels(calm.stored, troubled=True)
    one, other = json.loads(as_script([calm, troubled] * 20))[:2]
    assert len(other["c"]) > 3 * len(one["c"])


def _drift(shift: float, factor: float) -> Drift:
    p = healthy()
    norm = Norm(
        8, 1e-5, None, p["mean"], p["variance"], p["scale"], p["shift"], np.dtype(np.float32)
    )
    return Drift.of(norm, seen(p, shift=shift, factor=factor))


@pytest.mark.parametrize(
    ("shift", "factor", "expected"),
    [(0, 1, 0), (0.25, 1, 0.5), (0.5, 1, 1), (0.75, 1, 1.5), (1, 1, 2), (0, 2, 1), (0, 0.25, 2), (0.5, 4, 2)],
)  # fmt: skip
def test_the_height_of_a_bar(shift: float, factor: float, expected: float) -> None:
    """1 is the threshold of a warning, 2 that of an error, whichever measure is nearer to its own."""
    assert level(_drift(shift, factor), Thresholds()) == pytest.approx(expected, abs=0.01)


def test_the_height_of_a_bar_where_thresholds_coincide() -> None:
    limits = Thresholds(mean_warning=1.0, mean_error=1.0, variance_warning=1.0)
    assert level(_drift(1.5, 1.0), limits) > 1


@pytest.fixture(scope="module")
def folded(sample_models: Path) -> FoldResult:
    return fold(OnnxModel(sample_models / "residual.onnx"), None)


def test_blocks_follow_the_names(folded: FoldResult) -> None:
    assert folded.change is not None
    blocks = blocks_of(folded.change)
    assert [b.name for b in blocks][::2] == ["stem", "block1", "block3"]
    cells = [cell for block in blocks for cell in block.cells]
    gone = [cell for cell in cells if "gone" in cell.style]
    assert len(gone) == 8
    for cell in gone:
        (target,) = cell.into
        assert cells[target].style == "l took"
        assert cell.glyph == "←"
    assert sum(b.before - b.after for b in blocks) == 8


def test_blocks_of_names_that_say_nothing(folded: FoldResult) -> None:
    assert folded.change is not None
    nodes = folded.change.graph.nodes
    names = [node.name for node in nodes]
    try:
        for i, node in enumerate(nodes):
            node.name = f"n{i}"
        assert [b.name for b in blocks_of(folded.change)] == ["1 to 24", "25 to 29"]
    finally:
        for node, name in zip(nodes, names, strict=True):
            node.name = name


@pytest.mark.parametrize("name", ["preact", "mlp_bn_before", "transposed"])
def test_sizes_are_those_of_the_files(name: str, sample_models: Path, tmp_path: Path) -> None:
    """Every parameter of these networks belongs to a linear layer or a BatchNorm."""
    result = fold(OnnxModel(sample_models / f"{name}.onnx"), tmp_path / "out.onnx")
    assert result.change is not None
    before, after = result.change.sizes()
    for sizes, path in ((before, sample_models / f"{name}.onnx"), (after, tmp_path / "out.onnx")):
        tensors = onnx.load(path).graph.initializer
        floats = [t for t in tensors if t.data_type == onnx.TensorProto.FLOAT]
        assert sizes.parameters == sum(prod(t.dims) for t in floats)
    assert before.flops is not None and after.flops is not None
    assert 0 < after.flops < before.flops


def test_axes_and_their_round_values() -> None:
    assert [text for _, text in Axis(0.0, 1.0).ticks()] == ["0", "0.5", "1"]
    axis = Axis.logarithmic(np.array([3e-7, 0.0, np.inf, 2e-5]))
    assert (axis.low, axis.high) == (-7, -4)
    assert [text for _, text in axis.ticks()] == ["1e-7", "1e-6", "1e-5", "1e-4"]
    np.testing.assert_allclose(axis.share(np.array([1e-7, 1e-4, 1.0])), [0, 1, 1])


@pytest.mark.parametrize("values", [[], [np.nan], [0.0, 0.0], [5.0], [np.inf, 1.0], [1e-45, 1e30]])
def test_charts_of_strange_values(values: list[float]) -> None:
    array = np.array(values)
    for axis in (Axis.over(array), Axis.logarithmic(array)):
        plot = Plot("words", axis, ["<tip>"] * len(values), [Line(1.0, "one")])
        drawn = plot.draw(plot.spans(array, array, "box"), plot.dots(array, "median"))
        assert "nan" not in drawn
        assert "<tip>" not in drawn
