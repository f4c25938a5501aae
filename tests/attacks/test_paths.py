"""What a file may not make bnfold read, and what no command may write to."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from situations.build import Net
from situations.command import Command, files_in, is_one_sentence

_DATA = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def external(command: Command, tmp_path: Path) -> Path:
    place = tmp_path / "inside"
    place.mkdir()
    path = place / "m.onnx"
    net = Net()
    folded = net.bn(net.conv(net.input("N", 16, "H", "W"), 16, 32), 32)
    model = net.model(net.conv(net.relu(folded), 32, 32, name="untouched"))
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="m.data")
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    return path


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../secret",
        "a/../../secret",
        "link",
        "folder/secret",
        "",
        ".",
        "/dev/zero",
        "pipe",
    ],
)
def test_external_data_elsewhere(
    location: str, external: Path, command: Command, tmp_path: Path
) -> None:
    (external.parent / "link").symlink_to(tmp_path / "secret")
    (external.parent / "folder").symlink_to(tmp_path)
    os.mkfifo(external.parent / "pipe")
    model = onnx.load(external, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    external.write_bytes(model.SerializeToString())
    outcome = command("fold", external, "-o", "out.onnx")
    assert outcome.code == 2 and not (tmp_path / "out.onnx").exists()
    is_one_sentence(outcome.err)


@pytest.mark.parametrize("kind", ["model", "data", "weights", "report", "output"])
def test_a_pipe_is_not_waited_for(kind: str, command: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    arguments = {
        "model": ["inspect", "pipe.npy"],
        "data": ["inspect", "model.onnx", "--data", "pipe.npy"],
        "weights": [
            "fold",
            "torch.nn:Identity",
            "--weights",
            "pipe.npy",
            "--input",
            "1x3",
            "-o",
            "o.pt2",
        ],
        "report": ["inspect", "model.onnx", "--report", "pipe.npy"],
        "output": ["fold", "model.onnx", "-o", "pipe.npy"],
    }[kind]
    if kind == "weights":
        pytest.importorskip("torch")
    outcome = command(*arguments)
    assert outcome.code == 2 and "no ordinary file" in outcome.err
    is_one_sentence(outcome.err)


_HARM = [
    ["fold", "model.onnx", "-o", "out.onnx", "--report", "model.onnx"],
    ["fold", "model.onnx", "-o", "out.html", "--report", "out.html"],
    ["fold", "model.onnx", "-o", "out.onnx", "--report", "page.txt"],
    ["fold", "model.onnx", "-o", "out.onnx", "--report", "link.html"],
    ["fold", "model.onnx", "--data", "x.npy", "-o", "x.npy", "--force"],
    ["fold", "model.onnx", "--data", "x.npy", "-o", "out.onnx", "--report", "x.npy"],
    ["recalibrate", "model.onnx", "--data", "x.npy", "-o", "x.npy"],
    ["recalibrate", "model.onnx", "--data", "samples", "-o", "samples/a.npy"],
    ["inspect", "model.onnx", "--report", "model.onnx"],
    ["inspect", "model.onnx", "--data", "x.npy", "--report", "x.npy"],
    ["fold", "inside/m.onnx", "-o", "inside/m.data", "--force"],
    ["fold", "inside/m.onnx", "-o", "inside/m.onnx"],
    ["fold", "model.onnx", "-o", "hard.onnx"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", _HARM, ids=" ".join)
def test_no_file_of_the_command_is_overwritten(
    arguments: list[str], external: Path, command: Command, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", _DATA)
    (tmp_path / "samples").mkdir()
    np.save(tmp_path / "samples" / "a.npy", _DATA)
    (tmp_path / "link.html").symlink_to("model.onnx")
    os.link(tmp_path / "model.onnx", tmp_path / "hard.onnx")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    outcome = command(*arguments)
    assert (outcome.code, outcome.out) == (2, ""), outcome
    is_one_sentence(outcome.err)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_weights_are_overwritten_by_force_only(command: Command, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()\n"
    )
    import importlib.util

    spec = importlib.util.spec_from_file_location("attacked_net", tmp_path / "net.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.save(module.make().state_dict(), tmp_path / "c.pth")
    before = (tmp_path / "c.pth").read_bytes()
    arguments = ["fold", "net.py:make", "--weights", "c.pth", "--input", "1x3x8x8", "-o", "c.pth"]
    outcome = command(*arguments)
    assert outcome.code == 2 and "--force" in outcome.err
    assert (tmp_path / "c.pth").read_bytes() == before
    assert command(*arguments, "--force").code == 0
    assert (tmp_path / "c.pth").read_bytes() != before


def test_another_models_data_lives_on(external: Path, command: Command, tmp_path: Path) -> None:
    """A file that has the name which bnfold would choose, and is another's, is not touched."""
    out = external.with_name("out.onnx")
    assert command("fold", external, "-o", out).code == 0
    (data,) = [p for p in external.parent.iterdir() if p.name.startswith("out.onnx.")]
    content = data.read_bytes()
    out.unlink()
    assert command("fold", external, "-o", out).code == 0, "the same bytes serve"
    out.unlink()
    data.write_bytes(b"another model's")
    outcome = command("fold", external, "-o", out)
    assert outcome.code == 2 and "in the way" in outcome.err and not out.exists()
    assert data.read_bytes() == b"another model's"
    data.unlink()
    data.symlink_to(tmp_path / "secret")
    assert command("fold", external, "-o", out).code == 2
    assert (tmp_path / "secret").read_bytes() == bytes(1 << 16) != content


def test_a_forged_folder_of_a_dead_process(command: Command, tmp_path: Path) -> None:
    """Whoever hands over a folder can put anything in it; cleaning up removes nothing else."""
    precious = tmp_path / "precious.onnx.0123456789ab.data"
    precious.write_bytes(b"weights")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "file").write_text("mine")
    forged = tmp_path / ".bnfold-abcdefgh"
    forged.mkdir()
    (forged / ".lock").touch()
    (forged / "precious.onnx").touch()
    (forged / ".publishing").write_text(f"precious.onnx\n{precious.name}\nmodel.onnx\n../home/file")
    (forged / "link").symlink_to(tmp_path / "home")
    (tmp_path / ".bnfold-linklink").symlink_to(tmp_path / "home")
    (tmp_path / ".bnfold-mysource").mkdir()
    (tmp_path / ".bnfold-mysource" / "notes.txt").write_text("no lock: none of ours")
    assert command("fold", "model.onnx", "-o", "out.onnx").code == 0
    assert not forged.exists()
    assert precious.read_bytes() == b"weights" and (tmp_path / "model.onnx").exists()
    assert (tmp_path / "home" / "file").read_text() == "mine"
    assert {".bnfold-linklink", ".bnfold-mysource"} <= files_in(tmp_path)


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_who_may_read_stays(mode: int, external: Path, command: Command, tmp_path: Path) -> None:
    out = external.with_name("out.onnx")
    out.write_bytes(b"older")
    page = tmp_path / "page.html"
    page.write_text("older")
    for path in (out, page):
        path.chmod(mode)
    assert command("fold", external, "-o", out, "--report", page).code == 0
    written = [out, page, *(p for p in external.parent.iterdir() if p.name.startswith("out.onnx."))]
    assert len(written) == 3
    assert [path.stat().st_mode & 0o777 for path in written] == [mode] * 3
