"""Models whose tensors lie in files beside them: carried across, and never read from elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bnfold.files import SourceFile
from bnfold.formats.onnx.file.tensors import TensorStore
from bnfold.formats.onnx.file.wire import read_skeleton
from situations.build import Net, body
from situations.command import Command, files_in, is_one_sentence
from situations.fold import save
from situations.run import error, feeds_for, run


def _large() -> onnx.ModelProto:
    net = Net()
    y = net.relu(net.bn(net.conv(net.input("N", 16, "H", "W"), 16, 32), 32))
    return net.model(net.conv(y, 32, 32, name="untouched"))


def _external(model: onnx.ModelProto, path: Path, **options: Any) -> Path:
    return save(
        model, path, save_as_external_data=True, size_threshold=0,
        location=options.pop("location", f"{path.name}.data"), **options,
    )  # fmt: skip


@pytest.fixture
def external(tmp_path: Path) -> Path:
    place = tmp_path / "source"
    place.mkdir()
    return _external(_large(), place / "model.onnx")


def _agree(source: Path, target: Path) -> None:
    for feeds in feeds_for(_large(), ((1, 6), (2, 9))):
        assert error(run(source, feeds), run(target, feeds)) < 1e-5


def test_external_data_is_written_beside_the_target(
    external: Path, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "target").mkdir()
    assert command("fold", external, "-o", "target/out.onnx").code == 0
    (data,) = files_in(tmp_path / "target") - {"out.onnx"}
    content = hashlib.sha256((tmp_path / "target" / data).read_bytes()).hexdigest()
    assert data == f"out.onnx.{content[:12]}.data"
    assert files_in(external.parent) == {"model.onnx", "model.onnx.data"}
    _agree(external, tmp_path / "target" / "out.onnx")
    onnx.checker.check_model(tmp_path / "target" / "out.onnx")


def test_external_data_in_one_folder(external: Path, command: Command) -> None:
    before = (external.parent / "model.onnx.data").read_bytes()
    target = external.with_name("out.onnx")
    assert command("fold", external, "-o", target).code == 0
    assert (external.parent / "model.onnx.data").read_bytes() == before
    _agree(external, target)


def test_external_data_of_a_name_that_the_target_would_take(
    command: Command, tmp_path: Path
) -> None:
    """The source's data file is called as the target's would be, and must live on."""
    place = tmp_path / "source"
    place.mkdir()
    source = _external(_large(), place / "model.onnx", location="out.onnx.data")
    before = (place / "out.onnx.data").read_bytes()
    assert command("fold", source, "-o", place / "out.onnx").code == 0
    assert (place / "out.onnx.data").read_bytes() == before
    _agree(source, place / "out.onnx")


def test_external_data_overwritten_by_force(external: Path, command: Command) -> None:
    feeds = list(feeds_for(_large(), ((1, 6), (2, 9))))
    before = [run(external, f) for f in feeds]
    assert command("fold", external, "-o", external, "--force").code == 0
    for given, reference in zip(feeds, before, strict=True):
        assert error(reference, run(external, given)) < 1e-5


@pytest.mark.parametrize("location", ["/etc/hostname", "../secret.data", "sub/../../secret.data"])
def test_external_data_outside_the_folder_is_refused(
    location: str, external: Path, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "secret.data").write_bytes(bytes(1 << 17))
    model = onnx.load(external, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    external.write_bytes(model.SerializeToString())
    outcome = command("fold", external, "-o", "out.onnx")
    assert outcome.code == 2
    assert "outside the model's folder" in outcome.err
    is_one_sentence(outcome.err)
    assert not (tmp_path / "out.onnx").exists()


def test_external_data_behind_a_link_out_of_the_folder_is_refused(
    external: Path, command: Command, tmp_path: Path
) -> None:
    data = external.with_name("model.onnx.data")
    data.rename(tmp_path / "elsewhere.data")
    data.symlink_to(tmp_path / "elsewhere.data")
    outcome = command("inspect", external)
    assert outcome.code == 2
    assert "outside the model's folder" in outcome.err


def test_external_data_that_is_missing_or_short(external: Path, command: Command) -> None:
    data = external.with_name("model.onnx.data")
    data.write_bytes(data.read_bytes()[:100])
    outcome = command("fold", external, "-o", "out.onnx")
    assert outcome.code == 2
    assert "too short" in outcome.err
    data.unlink()
    outcome = command("inspect", external)
    assert outcome.code == 2
    assert "is missing" in outcome.err
    is_one_sentence(outcome.err)


def test_external_data_of_constant_nodes_and_bodies(command: Command, tmp_path: Path) -> None:
    net = Net()
    x = net.input("N", 16, "H", "W")
    weight = net.constant_node(net.rng.uniform(-1, 1, (32, 16, 3, 3)), "w")
    y = net.relu(net.bn(net.op("Conv", x, weight, name="conv"), 32))
    flag = net.const(np.array(True))
    branches = [Net(seed=i) for i in (1, 2)]
    for i, branch in enumerate(branches):
        branch.conv(y, 32, 32, name=f"inner{i}")
    bodies = [body(b, b.last().output[0], name=f"body{i}") for i, b in enumerate(branches)]
    y = net.op("If", flag, name="choice", then_branch=bodies[0], else_branch=bodies[1])
    model = net.model(y)
    place = tmp_path / "source"
    place.mkdir()
    source = _external(model, place / "model.onnx", convert_attribute=True)
    (tmp_path / "target").mkdir()
    target = tmp_path / "target" / "out.onnx"
    assert command("fold", source, "-o", target).code == 0
    for feeds in feeds_for(model, ((1, 6), (2, 9))):
        assert error(run(source, feeds), run(target, feeds)) < 1e-5


def test_data_stays_outside_where_all_of_it_is_computed_anew(
    command: Command, tmp_path: Path
) -> None:
    """No tensor is left that lay outside, and the new ones are as large."""
    net = Net()
    model = net.model(net.bn(net.conv(net.input("N", 16, "H", "W"), 16, 32), 32))
    (tmp_path / "source").mkdir()
    source = _external(model, tmp_path / "source" / "model.onnx")
    (tmp_path / "target").mkdir()
    assert command("fold", source, "-o", "target/out.onnx").code == 0
    (data,) = files_in(tmp_path / "target") - {"out.onnx"}
    assert (tmp_path / "target" / data).stat().st_size >= 32 * 16 * 9 * 4
    assert (tmp_path / "target" / "out.onnx").stat().st_size < 4096


@pytest.mark.parametrize("kind", ["outside", "embedded", "inside", "packed"])
def test_a_tensor_read_in_parts(kind: str, tmp_path: Path) -> None:
    """The parts joined are the tensor, wherever its bytes lie."""
    array = np.arange(3000, dtype=np.float32).reshape(30, 100)
    if kind == "packed":
        array = (array % 7).astype(ml_dtypes.int4)
    elif kind == "inside":
        array = array[:2]
    net = Net()
    model = net.model(net.conv(net.input("N", 16, "H", "W"), 16, 4))
    model.graph.initializer.append(numpy_helper.from_array(array, "wanted"))
    path = tmp_path / "m.onnx"
    _external(model, path) if kind in ("outside", "packed") else onnx.save(model, path)
    store = TensorStore(SourceFile(path))
    (tensor,) = (t for t in read_skeleton(store.source).graph.initializer if t.name == "wanted")
    assert (store.place(tensor) is None) == (kind == "inside")
    counts = [1, 0, 77, array.size - 78]
    parts = [part.copy() for part in store.parts(tensor, counts)]
    assert [part.size for part in parts] == counts
    assert np.concatenate(parts).reshape(array.shape).tobytes() == store.load(tensor).tobytes()
    assert (np.concatenate(parts) == array.reshape(-1)).all()
