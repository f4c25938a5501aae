"""Small files that unpack to far more than they hold."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from bnfold.data import InputSpec, SampleOptions, open_sample
from bnfold.data.images import _MOST_PIXELS
from bnfold.errors import DataError
from bnfold.files import bombs
from situations.command import Command, is_one_sentence


def npz(path: Path, rows: int) -> Path:
    """Zeros, which deflate to a thousandth."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(
            member, {"descr": "<f4", "fortran_order": False, "shape": (rows, 4, 8, 8)}
        )
        block = bytes(1 << 20)
        for _ in range(rows >> 10):
            member.write(block)
    return path


def png(path: Path, width: int, height: int) -> Path:
    """An image in one grey."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    return path


@pytest.fixture
def lower(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size from which on a ratio counts, so that a test needs no gigabyte."""
    monkeypatch.setattr(bombs, "LARGE", 1 << 20)


@pytest.mark.usefixtures("lower")
def test_npz(command: Command, tmp_path: Path) -> None:
    bomb = npz(tmp_path / "bomb.npz", 1 << 13)
    assert bomb.stat().st_size < 1 << 14
    for verb in (["inspect"], ["fold", "-o", "out.onnx"]):
        outcome = command(*verb, "model.onnx", "--data", bomb)
        assert outcome.code == 2 and "--no-size-limit" in outcome.err
        is_one_sentence(outcome.err)
    outcome = command("inspect", "model.onnx", "--data", bomb, "--no-size-limit", "--samples", "4")
    assert "--no-size-limit" not in outcome.err


def test_more_than_the_disk_holds(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    np.savez(tmp_path / "x.npz", x=np.zeros((9, 4, 8, 8), np.float32))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    outcome = command("inspect", "model.onnx", "--data", "x.npz")
    assert outcome.code == 2 and "10,000 are free" in outcome.err
    assert (
        "--no-size-limit"
        not in command("inspect", "model.onnx", "--data", "x.npz", "--no-size-limit").err
    )


@pytest.mark.usefixtures("lower")
def test_tensors(command: Command, tmp_path: Path) -> None:
    """No archive of torch is deflated; one that is unpacks to anything."""
    pytest.importorskip("torch")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 22))
    outcome = command("inspect", "bomb.pt")
    assert outcome.code == 2 and "unpacks from" in outcome.err
    outcome = command("inspect", "model.onnx", "--data", "bomb.pt")
    assert outcome.code == 2 and "--no-size-limit" in outcome.err


def test_png(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    width = 1 << 14
    bomb = png(tmp_path / "bomb.png", width, _MOST_PIXELS // width + 1)
    assert bomb.stat().st_size < 1 << 20
    spec = InputSpec("x", np.dtype("float32"), (None, 1, 8, 8))
    with pytest.raises(DataError, match=r"megapixels.*--no-size-limit"):
        open_sample(bomb, [spec])
    fine = png(tmp_path / "fine.png", 64, 64)
    assert open_sample(fine, [spec]).read(0, 1)["x"].shape == (1, 1, 8, 8)
    assert open_sample(bomb, [spec], SampleOptions(size_limit=False)).count == 1


def test_a_header_that_claims_more_than_the_file_holds(command: Command, tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        shape = (1 << 40, 4, 8, 8)
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        file.write(bytes(1 << 12))
    outcome = command("inspect", "model.onnx", "--data", "x.npy")
    assert outcome.code == 2 and "ends too early" in outcome.err
    is_one_sentence(outcome.err)
