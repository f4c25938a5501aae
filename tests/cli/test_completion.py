"""Completion: the script for bash runs in bash, those for other shells name every option."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bnfold.cli import COMMANDS, command_of
from situations.command import Command


@pytest.fixture
def script(command: Command, tmp_path: Path) -> Path:
    path = tmp_path / "completion"
    outcome = command("completion", "bash")
    assert outcome.code == 0
    path.write_text(outcome.out)
    return path


def completed(script: Path, *words: str) -> set[str]:
    line = " ".join(f"'{word}'" for word in ("bnfold", *words))
    done = subprocess.run(
        ["bash", "--norc", "-c",
         f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _bnfold; "
         "printf '%s\\n' \"${COMPREPLY[@]}\""],
        cwd=script.parent, text=True, capture_output=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["in"], {"inspect"}),
        ([""], {*COMMANDS, "--help", "--version"}),
        (["fold", "--out"], {"--output", "--output-dir"}),
        (["fold", "--no-"], {"--no-verify", "--no-provenance", "--no-size-limit"}),
        (["inspect", "m.onnx", "--format", ""], {"text", "json", "sarif", "github", "markdown"}),
        (["fold", "-f", "j"], {"json"}),
        (["inspect", "mod"], {"model.onnx"}),
        (["fold", "model.onnx", "-o", "kep"], {"kept.onnx"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes(words: list[str], expected: set[str], script: Path) -> None:
    assert completed(script, *words) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_option_is_in_the_script(shell: str, command: Command, tmp_path: Path) -> None:
    text = command("completion", shell).out
    for name in COMMANDS:
        for spec in command_of(name).specs:
            for option in spec.names:
                fish = f"-l {option[2:]} " if option.startswith("--") else f"-s {option[1:]} "
                assert (fish if shell == "fish" else option) in text
    if shutil.which(shell) is not None:
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)
