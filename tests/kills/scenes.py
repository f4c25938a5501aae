"""What is killed: a command in a folder where an older output lies, and what may be there afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_models"
_STALE, _OTHER = SAMPLES / "residual_stale_statistics.onnx", SAMPLES / "residual.onnx"
_DATA = ["--data", str(SAMPLES / "digits_calibration.npz"), "--samples", "16"]


@dataclass(frozen=True)
class Scene:
    """``command`` writes ``target``; ``build`` puts the input, and an older target, into a folder."""

    name: str
    command: tuple[str, ...]
    target: str
    build: Callable[[Path], None]
    torch: bool = False


def _onnx(folder: Path, *, external: bool) -> None:
    model = onnx.load(_STALE)
    options: dict[str, Any] = {
        "save_as_external_data": True,
        "size_threshold": 0,
        "location": "in.data",
    }
    onnx.save(model, folder / "in.onnx", **(options if external else {}))
    old = onnx.load(_OTHER)
    options["location"] = "out.onnx.0123456789ab.data"
    onnx.save(old, folder / "out.onnx", **(options if external else {}))


def _program(folder: Path) -> None:
    import torch

    from .network import Small

    batch = {"image": {0: torch.export.Dim("batch")}}
    example = (torch.zeros(2, 1, 8, 8),)
    program = torch.export.export(Small().eval(), example, dynamic_shapes=batch)
    torch.export.save(program, folder / "in.pt2")
    shutil.copy(folder / "in.pt2", folder / "out.pt2")
    shutil.copy(folder / "in.pt2", folder / "out.pth")


SCENES = (
    Scene("fold", ("fold", "in.onnx", "-o", "out.onnx"), "out.onnx", lambda f: _onnx(f, external=False)),
    Scene(
        "fold with external data", ("fold", "in.onnx", "-o", "out.onnx"), "out.onnx",
        lambda f: _onnx(f, external=True),
    ),
    Scene(
        "fold over itself", ("fold", "in.onnx", "-o", "in.onnx", "--force"), "in.onnx",
        lambda f: _onnx(f, external=True),
    ),
    Scene(
        "recalibrate", ("recalibrate", "in.onnx", *_DATA, "-o", "out.onnx"), "out.onnx",
        lambda f: _onnx(f, external=False),
    ),
    Scene(
        "recalibrate with external data", ("recalibrate", "in.onnx", *_DATA, "-o", "out.onnx"),
        "out.onnx", lambda f: _onnx(f, external=True),
    ),
    Scene("fold a program", ("fold", "in.pt2", "-o", "out.pt2"), "out.pt2", _program, True),
    Scene("fold into a state dict", ("fold", "in.pt2", "-o", "out.pth"), "out.pth", _program, True),
    Scene(
        "recalibrate a program", ("recalibrate", "in.pt2", *_DATA, "-o", "out.pt2"), "out.pt2",
        _program, True,
    ),
)  # fmt: skip


def state(folder: Path, target: str) -> str:
    """What a reader of ``target`` gets: a hash over all tensors and structure, or what is wrong."""
    path = folder / target
    digest = hashlib.sha256()
    if path.suffix == ".onnx":
        model = onnx.load(path)  # with its data, from wherever it lies
        for tensor in model.graph.initializer:
            tensor.ClearField("external_data")
        digest.update(model.SerializeToString(deterministic=True))
        return digest.hexdigest()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            # The one record that holds the time, or chance.
            if "serialization_id" not in info.filename:
                digest.update(info.filename.split("/", 1)[-1].encode() + archive.read(info))
    return digest.hexdigest()


class Zygote:
    """See `zygote`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, folder: Path, temporary: Path, arguments: tuple[str, ...], **how: Any) -> Any:
        """Runs the command; ``how`` says when to kill it, if at all."""
        order = {
            "folder": str(folder), "temporary": str(temporary), "arguments": arguments,
            "errors": str(folder.parent / "stderr"), **how,
        }  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def zygote(*, torch: bool) -> Iterator[Zygote]:
    command = [
        sys.executable,
        str(Path(__file__).with_name("zygote.py")),
        *(["torch"] if torch else []),
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    with process:
        yield Zygote(process)
        assert process.stdin is not None
        process.stdin.close()


class Stage:
    """A scene, ready to be played again and again."""

    def __init__(self, scene: Scene, place: Path, player: Zygote) -> None:
        self.scene, self._place, self._player = scene, place, player
        self._template = place / "template"
        self._template.mkdir(parents=True)
        scene.build(self._template)
        self.old = state(self._template, scene.target)
        folder, ended = self.play("clean")
        assert ended["code"] == 0, (folder.parent / "stderr").read_text()
        self.new, self.changes = state(folder, scene.target), int(ended["changes"])
        assert self.new != self.old
        self.files = _files(folder)

    def play(self, name: str, **how: Any) -> tuple[Path, Any]:
        """Runs the command in a fresh folder; ``how`` says when it is killed."""
        folder = self._place / name / "folder"
        (self._place / name / "temporary").mkdir(parents=True)
        shutil.copytree(self._template, folder)
        return folder, self._again(folder, **how)

    def _again(self, folder: Path, **how: Any) -> Any:
        return self._player.run(folder, folder.parent / "temporary", self.scene.command, **how)

    def kill(self, name: str, **how: Any) -> str:
        """Kills the command and runs it once more.

        Returns:
            ``old`` or ``new``: what was at the target in between.
        """
        folder, ended = self.play(name, **how)
        found = state(folder, self.scene.target)
        assert found in (self.old, self.new), f"{name}: a mixture after {ended}"
        if ended["code"] == 0:
            assert found == self.new
        if ended["code"] > 128:  # it cleaned up itself
            assert _files(folder) in (_files(self._template), self.files), (
                f"{name}: {_files(folder)}"
            )
        between = "new" if found == self.new else "old"
        if self.scene.command[-1] == "--force" and between == "new":
            return between  # what would be folded once more is folded already
        assert self._again(folder)["code"] == 0
        assert state(folder, self.scene.target) == self.new
        assert _files(folder) == self.files, f"{name}: left behind {_files(folder) ^ self.files}"
        left = {n for n in _files(folder.parent / "temporary") if "bnfold" in n}
        assert not left, f"{name}: left behind {left}"
        shutil.rmtree(folder.parent)
        return between


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
