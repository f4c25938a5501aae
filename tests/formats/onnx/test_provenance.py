"""Where a file comes from stands in its metadata, and the proof expects exactly that and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from bnfold.files import file_sha256
from bnfold.formats.onnx.edit import edited
from bnfold.formats.onnx.file.save import save
from bnfold.version import __version__
from situations.command import Command

Change = Callable[[onnx.ModelProto], object]


def _metadata(path: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


def test_a_file_says_where_it_comes_from(command: Command, tmp_path: Path) -> None:
    assert command("fold", "model.onnx", "-o", "out.onnx").code == 0
    assert _metadata(tmp_path / "out.onnx") == {
        **_metadata(tmp_path / "model.onnx"),
        "bnfold.version": __version__,
        "bnfold.source_sha256": file_sha256(tmp_path / "model.onnx"),
        "bnfold.verdict": "verified",
    }
    first = (tmp_path / "out.onnx").read_bytes()
    assert command("fold", "model.onnx", "-o", "out.onnx").code == 0
    assert (tmp_path / "out.onnx").read_bytes() == first


def test_it_says_what_was_not_done(command: Command, tmp_path: Path) -> None:
    assert command("fold", "model.onnx", "-o", "out.onnx", "--no-verify").code == 0
    assert _metadata(tmp_path / "out.onnx")["bnfold.verdict"] == "not verified"
    assert command("fold", "model.onnx", "-o", "out.onnx", "--no-provenance").code == 0
    assert _metadata(tmp_path / "out.onnx") == _metadata(tmp_path / "model.onnx")


def test_a_copy_stays_a_copy(command: Command, tmp_path: Path) -> None:
    assert command("fold", "kept.onnx", "-o", "out.onnx").code == 0
    assert onnx.load(tmp_path / "out.onnx") == onnx.load(tmp_path / "kept.onnx")


@pytest.mark.parametrize(
    ("flags", "verdict"),
    [
        ([], "statistics checked"),
        (["--method", "batch"], "not checked"),
        (["--no-provenance"], None),
    ],
)
def test_new_statistics_say_so_too(
    flags: list[str], verdict: str | None, command: Command, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).normal(size=(8, 4, 9, 9)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    words = ["recalibrate", "model.onnx", "--data", "x.npy", "-o", "out.onnx", *flags]
    assert command(*words).code == 0
    found = _metadata(tmp_path / "out.onnx")
    assert found.get("bnfold.verdict") == verdict
    source = None if verdict is None else file_sha256(tmp_path / "model.onnx")
    assert found.get("bnfold.source_sha256") == source


def test_metadata_of_the_original_survives(command: Command, tmp_path: Path) -> None:
    """That of an earlier fold is replaced, as a key can stand there once."""
    model = onnx.load(tmp_path / "model.onnx")
    for key, value in (("made_by", "me"), ("bnfold.verdict", "never"), ("bnfold.other", "kept")):
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, tmp_path / "noted.onnx")
    assert command("fold", "noted.onnx", "-o", "out.onnx").code == 0
    found = _metadata(tmp_path / "out.onnx")
    assert (found["made_by"], found["bnfold.other"]) == ("me", "kept")
    assert found["bnfold.verdict"] == "verified"
    assert len(onnx.load(tmp_path / "out.onnx").metadata_props) == len(found)


def _set(key: str, value: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        (entry,) = [p for p in model.metadata_props if p.key == key]
        entry.value = value

    return change


_FAULTS: dict[str, Change] = {
    "one more": lambda m: m.metadata_props.add(key="more", value="x"),
    "one more of ours": lambda m: m.metadata_props.add(key="bnfold.more", value="x"),
    "one twice": lambda m: m.metadata_props.add(key="bnfold.verdict", value="verified"),
    "one less": lambda m: m.metadata_props.pop(),
    "none": lambda m: m.metadata_props.__delitem__(slice(None)),
    "another author": _set("made_by", "you"),
    "another source": _set("bnfold.source_sha256", "0" * 64),
    "another verdict": _set("bnfold.verdict", "verified!"),
    "another producer": lambda m: setattr(m, "producer_name", "bnfold"),
    "another documentation": lambda m: setattr(m, "doc_string", "folded"),
}


_OF_PROVENANCE = ("another source", "another verdict", "one twice")
_PLANTED = [
    (fault, flag)
    for fault in _FAULTS
    for flag in ("--provenance", "--no-provenance")
    if flag == "--provenance" or fault not in _OF_PROVENANCE
]


@pytest.mark.parametrize(("fault", "flag"), _PLANTED)
def test_a_planted_fault_is_found(
    fault: str, flag: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(tmp_path / "model.onnx")
    model.metadata_props.add(key="made_by", value="me")
    onnx.save(model, tmp_path / "noted.onnx")

    def faulty(proto: onnx.ModelProto, *others: object, **more: object) -> list[Path]:
        changed = onnx.ModelProto()
        changed.CopyFrom(proto)
        _FAULTS[fault](changed)
        return save(changed, *others, **more)  # type: ignore[arg-type]

    assert command("fold", "noted.onnx", "-o", "out.onnx", flag).code == 0
    (tmp_path / "out.onnx").unlink()
    monkeypatch.setattr(edited, "save", faulty)
    outcome = command("fold", "noted.onnx", "-o", "out.onnx", flag)
    assert outcome.code == 1 and "the written file differs" in outcome.out
    assert not (tmp_path / "out.onnx").exists()
