"""No file of PyTorch runs code without --allow-pickle, by whatever route."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from bnfold.formats.torch import open_torch
from bnfold.formats.torch.file.expressions import is_plain_expression
from situations.command import Command, is_one_sentence

from . import programs

Build = Callable[[Path, Path], Path]


def _refused(command: Command, path: Path, mark: Path) -> str:
    outcome = command("fold", path, "--input", "1x1x4x4", "-o", "out.pt2")
    assert (outcome.code, outcome.out) == (2, ""), outcome
    assert not mark.exists(), "code of the file ran"
    is_one_sentence(outcome.err)
    assert not Path("out.pt2").exists()
    return outcome.err


@pytest.mark.parametrize("build", [*programs.OPEN, *programs.OTHERS], ids=lambda b: b.__name__)
def test_an_exported_program(build: Build, command: Command, tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    error = _refused(command, build(tmp_path / "evil.pt2", mark), mark)
    assert "--allow-pickle" in error and "runs code" in error


@pytest.mark.parametrize("build", programs.OPEN, ids=lambda b: b.__name__)
def test_the_attacks_are_real(
    build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Torch alone runs each; were that no longer so, the test above would show nothing."""
    mark = tmp_path / "pwned"
    path = build(tmp_path / "evil.pt2", mark)
    with suppress(Exception):  # the damage is done before
        torch.export.load(path)
    assert mark.exists()


def test_what_is_behind_the_end_of_an_archive(command: Command, tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    _refused(command, programs.trailing_archive(tmp_path / "evil.pt2", mark), mark)


def test_torchscript(command: Command, tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    path = programs.torchscript(tmp_path / "evil.pt", mark)
    assert "TorchScript" in _refused(command, path, mark)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        load: Any = torch.jit.load
        load(str(path))
    assert mark.exists(), "the attack is real"


def test_torchscript_that_kills_its_process(command: Command, tmp_path: Path) -> None:
    """A damaged record, which torch follows into nowhere, is a sentence with --allow-pickle too."""
    path = programs.torchscript(tmp_path / "damaged.pt", tmp_path / "mark")
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 3):
        if content[place : place + 2] != b"PK":
            content[place] ^= 0x40
    path.write_bytes(content)
    outcome = command("inspect", path, "--allow-pickle", "--input", "1x1x4x4")
    assert outcome.code == 2
    is_one_sentence(outcome.err)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_as_model_or_weights(legacy: bool, command: Command, tmp_path: Path) -> None:
    mark, path = tmp_path / "pwned", tmp_path / "evil.pth"
    torch.save({"w": programs.Payload(mark)}, path, _use_new_zipfile_serialization=not legacy)
    assert "--allow-pickle" in _refused(command, path, mark)
    arguments = ["torch.nn:Identity", "--weights", path, "--input", "1x3", "-o", "out.pt2"]
    outcome = command("fold", *arguments)
    assert outcome.code == 2 and not mark.exists()
    assert "--allow-pickle" in outcome.err


def test_a_harmless_program_needs_no_permission(tmp_path: Path) -> None:
    assert open_torch(programs.program(tmp_path / "fine.pt2")).node_count > 0


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s0', integer=True, positive=True)",
        "Mul(Integer(2), Symbol('s77', positive=True, integer=True))",
        "FloorDiv(Add(Symbol('s0'), Integer(-1)), Integer(2))",
        "Pow(Symbol('s0'), Integer(2))",
        "Float('1.5', precision=53)",
        "2*s0 + 1",
    ],
)
def test_sizes_that_torch_writes(text: str) -> None:
    assert is_plain_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "Symbol(__import__('os').name)",
        "Add('open(1)')",
        "Symbol('open(1)')",
        "(lambda: 1)()",
        "[x for x in ().__class__.__base__.__subclasses__()]",
        "s0.__class__",
        "Symbol('s0', integer=open('x'))",
        "9**9**9",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "preview(s0)",
        "f'{s0}'",
        "",
    ],
)
def test_sizes_that_it_would_evaluate(text: str) -> None:
    assert not is_plain_expression(text)
