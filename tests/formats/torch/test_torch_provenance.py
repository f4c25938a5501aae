"""Where a file of PyTorch comes from stands in it, where its form has a place for that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open

import bnfold
from bnfold.cli.fold import fold as command
from bnfold.cli.recalibrate import recalibrate as recalibrate_command
from bnfold.files import file_sha256
from bnfold.version import __version__
from situations.command import Called, called
from torch_cases import Lambda, bn, conv, randomised

KEYS = ("bnfold.version", "bnfold.source_sha256", "bnfold.verdict")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    net = randomised(Lambda(lambda m, x: m.b(m.c(x)), c=conv(3, 8), b=bn())).eval()
    torch.export.save(torch.export.export(net, (torch.randn(2, 3, 8, 8),)), tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


def said(path: Path) -> dict[str, Any]:
    """What a file says of where it comes from."""
    if path.suffix == ".pt2":
        found: Any = dict.fromkeys(KEYS, "")
        torch.export.load(path, extra_files=found)
        return {key: text for key, text in found.items() if text}
    if path.suffix == ".onnx":
        return {p.key: p.value for p in onnx.load(path).metadata_props if p.key in KEYS}
    with safe_open(path, "pt") as file:
        noted = json.loads(file.metadata()["bnfold"])
    return {key: noted[key] for key in KEYS if key in noted}


def fold(source: Path, target: Path, *options: str) -> Called:
    return called(command, str(source), "-o", str(target), *options)


@pytest.mark.parametrize("suffix", [".pt2", ".safetensors", ".onnx"])
def test_a_file_says_where_it_comes_from(suffix: str, source: Path, tmp_path: Path) -> None:
    target = tmp_path / f"folded{suffix}"
    assert fold(source, target).exit_code == 0
    wanted = {
        "bnfold.version": __version__,
        "bnfold.source_sha256": file_sha256(source),
        "bnfold.verdict": "verified",
    }
    assert said(target) == wanted
    first = target.read_bytes()
    assert fold(source, target).exit_code == 0 and target.read_bytes() == first
    assert fold(source, target, "--no-verify").exit_code == 0
    assert said(target)["bnfold.verdict"] == "not verified"
    assert fold(source, target, "--no-provenance").exit_code == 0 and said(target) == {}


def test_new_statistics_say_so_too(source: Path, tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", data)
    words = [str(source), "--data", str(tmp_path / "x.npy"), "-o", str(tmp_path / "new.pt2")]
    assert called(recalibrate_command, *words).exit_code == 0
    assert said(tmp_path / "new.pt2")["bnfold.verdict"] == "statistics checked"


def test_a_state_dict_holds_nothing_but_tensors(source: Path, tmp_path: Path) -> None:
    assert fold(source, tmp_path / "folded.pth").exit_code == 0
    state = torch.load(tmp_path / "folded.pth", weights_only=True)
    assert state and all(isinstance(value, torch.Tensor) for value in state.values())


def test_a_program_that_says_something_else_is_not_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.export.save

    def wrongly(program: Any, file: Any, extra_files: Any) -> None:
        save(program, file, extra_files={**extra_files, "bnfold.verdict": "perfect"})

    monkeypatch.setattr(torch.export, "save", wrongly)
    found = fold(source, tmp_path / "folded.pt2")
    assert found.exit_code == 1 and "bnfold.verdict" in found.stdout
    assert not (tmp_path / "folded.pt2").exists()


def test_a_program_that_says_it_folds_again(source: Path, tmp_path: Path) -> None:
    """What an earlier fold noted is no part of the program."""
    first, second = tmp_path / "first.pt2", tmp_path / "second.pt2"
    assert fold(source, first).exit_code == 0 and fold(first, second).exit_code == 0
    assert bnfold.verify(first, second).ok
