"""Files of PyTorch that run code when torch opens them; the code makes a file of a given name."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Payload:
    """Unpickled, it makes the file."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._mark,)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)
        self.register_buffer("offset", torch.ones(2, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.conv(x)) + self.offset
        return found


def pickled(mark: Path) -> bytes:
    """As torch.save writes it."""
    buffer = io.BytesIO()
    torch.save((Payload(mark),), buffer)
    return buffer.getvalue()


def program(path: Path) -> Path:
    """A harmless one, with a batch of any size."""
    shapes = {"x": {0: torch.export.Dim("batch")}}
    made = torch.export.export(Network().eval(), (torch.ones(2, 1, 4, 4),), dynamic_shapes=shapes)
    torch.export.save(made, path)
    return path


Edit = Callable[[str, bytes], bytes]


def edited(path: Path, edit: Edit, more: dict[str, bytes] | None = None) -> Path:
    """The program at ``path`` with its records changed, and others added."""
    with zipfile.ZipFile(program(path)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    top = next(iter(records)).split("/", 1)[0]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in records.items():
            archive.writestr(name, edit(name, content))
        for name, content in (more or {}).items():
            archive.writestr(f"{top}/{name}", content)
    return path


def sample_inputs(path: Path, mark: Path) -> Path:
    return edited(path, lambda n, c: pickled(mark) if "sample_inputs" in n else c)


def pickled_weight(path: Path, mark: Path) -> Path:
    """A weight that its config says to be pickled."""

    def edit(name: str, content: bytes) -> bytes:
        if not name.endswith("weights_config.json"):
            return pickled(mark) if name.endswith("weights/weight_0") else content
        config = json.loads(content)
        for entry in config["config"].values():
            if entry["path_name"] == "weight_0":
                entry["use_pickle"] = True
        return json.dumps(config).encode()

    return edited(path, edit)


def _constant(path: Path, record: str, content: bytes) -> Path:
    def edit(name: str, old: bytes) -> bytes:
        if not name.endswith("constants_config.json"):
            return old
        config = json.loads(old)
        entry = next(iter(config["config"].values()))
        entry |= {"path_name": record, "use_pickle": True}
        return json.dumps(config).encode()

    return edited(path, edit, {f"data/constants/{record}": content})


def pickled_constant(path: Path, mark: Path) -> Path:
    return _constant(path, "tensor_9", pickled(mark))


def opaque_value(path: Path, mark: Path) -> Path:
    return _constant(path, "opaque_obj_0", pickle.dumps(Payload(mark)))


def legacy_weights(path: Path, mark: Path) -> Path:
    """All weights in one record, as older versions wrote them."""
    return edited(path, lambda n, c: c, {"data/weights/model.pt": pickled(mark)})


def computed_size(path: Path, mark: Path) -> Path:
    """The expression of a dynamic size, which torch evaluates."""

    def edit(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        found = json.loads(content)
        _replace(found, "expr_str", f"__import__('pathlib').Path({str(mark)!r}).touch()")
        return json.dumps(found).encode()

    return edited(path, edit)


def name_of_an_input(path: Path, mark: Path) -> Path:
    """A name that torch writes into the Python code of the graph."""

    def edit(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        code = json.dumps(f"x=__import__('pathlib').Path({str(mark)!r}).touch()")
        return content.decode().replace('"x"', code).encode()

    return edited(path, edit)


def operator_on_files(path: Path, mark: Path) -> Path:
    """An operator that maps a file of any name, and makes it, when the network runs."""
    old, new = b"torch.ops.aten.add.Tensor", b"torch.ops.aten.from_file.default"
    return edited(path, lambda n, c: c.replace(old, new) if n.endswith("model.json") else c)


def compiled(path: Path, mark: Path) -> Path:
    """A library, which torch opens on the way."""
    return edited(path, lambda n, c: c, {"data/aotinductor/model/code.so": b"\x7fELF"})


def trailing_archive(path: Path, mark: Path) -> Path:
    """Two archives in one file: readers differ in which one they see."""
    harmless = program(path).read_bytes()
    path.write_bytes(harmless + sample_inputs(path, mark).read_bytes() + b"\0" * 30)
    return path


def torchscript(path: Path, mark: Path) -> Path:
    """An archive whose module writes a file as soon as it is loaded."""

    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mapped = torch.ones(2)

        @torch.jit.export
        def __getstate__(self) -> tuple[Tensor, bool]:
            return self.mapped, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[Tensor, bool]) -> None:
            self.training = state[1]
            self.mapped = torch.from_file("MARK", shared=True, size=4)

        def forward(self, x: Tensor) -> Tensor:
            return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        script: Any = torch.jit.script
        script(Writes()).save(str(path))
    return _renamed(path, "MARK", str(mark))


def _renamed(path: Path, old: str, new: str) -> Path:
    with zipfile.ZipFile(path) as archive:
        records = {i: archive.read(i) for i in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for info, content in records.items():
            archive.writestr(
                info.filename, content.replace(f'"{old}"'.encode(), f'"{new}"'.encode())
            )
    return path


def _replace(found: Any, key: str, value: str) -> None:
    if isinstance(found, dict):
        for name, item in found.items():
            if name == key:
                found[name] = value
            else:
                _replace(item, key, value)
    elif isinstance(found, list):
        for item in found:
            _replace(item, key, value)


# What torch itself falls for, and what it notices or never meets.
OPEN = (
    sample_inputs,
    pickled_weight,
    pickled_constant,
    opaque_value,
    computed_size,
    name_of_an_input,
)
OTHERS = (legacy_weights, compiled, operator_on_files)
