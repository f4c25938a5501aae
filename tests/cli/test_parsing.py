"""The parser: words become values, and every mistake is one sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest

from bnfold.cli import COMMANDS, command_of
from bnfold.cli.parsing import Argument, Command, Option
from bnfold.cli.parsing.help import overview, page_of
from bnfold.cli.parsing.words import HelpWanted
from bnfold.errors import UsageError
from situations.command import Command as Runs
from situations.command import is_one_sentence


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Flags:
    size: Annotated[int, Option("--size", "-s", help="How large.", min=1)] = 3
    share: Annotated[float | None, Option(help="How much.", min=0)] = None
    names: Annotated[list[str] | None, Option("--name", "-n", help="Who.")] = None


_seen: dict[str, Any] = {}


def paint(
    first: Annotated[str, Argument("FIRST", "What comes first.")],
    others: Annotated[list[Path], Argument("OTHER", "What follows.")],
    flags: Flags,
    colour: Annotated[Colour, Option("--colour", "-c", help="Which.")] = Colour.RED,
    shiny: Annotated[bool, Option("--shiny/--dull", help="Shiny.")] = True,
    quick: Annotated[bool, Option("--quick", "-q", help="Quick.")] = False,
) -> int:
    """Paint FIRST and OTHER.

    Nobody reads on.
    """
    _seen.update(locals())
    return 0


COMMAND = Command.of(paint)


def run(*words: str) -> dict[str, Any]:
    _seen.clear()
    assert COMMAND.run(words) == 0
    return dict(_seen)


@pytest.mark.parametrize(
    "words",
    [
        ["a", "b", "c", "--size", "5", "-n", "x", "--name=y", "-c", "blue", "--dull", "-q"],
        ["-qs5", "--colour=blue", "a", "--dull", "b", "-nx", "c", "-n=y"],
        ["-q", "-s", "5", "-n", "x", "-n", "y", "-cblue", "--dull", "--", "a", "b", "c"],
        ["a", "-qn=x", "b", "--name", "y", "-qc=blue", "c", "-qs", "5", "--dull"],
    ],
)
def test_all_forms_of_one_line(words: list[str]) -> None:
    found = run(*words)
    assert found["flags"] == Flags(5, None, ["x", "y"])
    assert (found["first"], found["others"]) == ("a", [Path("b"), Path("c")])
    assert (found["colour"], found["shiny"], found["quick"]) == (Colour.BLUE, False, True)


def test_defaults_and_the_last_one_wins() -> None:
    found = run("a", "b", "--dull", "--shiny", "-c", "blue", "-c", "red")
    assert found["flags"] == Flags() and found["colour"] is Colour.RED and found["shiny"]


def test_values_that_look_like_options() -> None:
    assert run("-", "b", "--name", "-1,2", "--name", "--", "--name=--size")["flags"].names == [
        "-1,2",
        "--",
        "--size",
    ]
    assert run("-", "-", "--", "--size")["others"] == [Path("-"), Path("--size")]
    assert run("a", "b", "-n--", "--name=--", "-n=--", "-qn", "-1,2", "-n=", "--name==y", "-n-x y")[
        "flags"
    ].names == ["--", "--", "--", "-1,2", "", "=y", "-x y"]


_WRONG = {
    "a": "OTHER is missing: bnfold paint FIRST OTHER",
    "": "FIRST is missing: bnfold paint FIRST OTHER",
    "a b --szie 3": "bnfold paint has no option --szie; did you mean --size?",
    "a b --zzz": "bnfold paint has no option --zzz; bnfold paint --help lists all",
    "a b -z": "bnfold paint has no option -z; bnfold paint --help lists all",
    "a b --size": "--size needs a value: --size NUMBER",
    "a b -n --quick": "-n needs a value: -n TEXT",
    "a b -qs": "-s needs a value: -s NUMBER",
    "a b -qx": "bnfold paint has no option -x; bnfold paint --help lists all",
    "a b -q-x": "-q takes no value; write -q alone, or leave it out",
    "a b --dull=1": "--dull takes no value; write --dull alone, or leave it out",
    "a b --si 3": "bnfold paint has no option --si; did you mean --size?",
    "a b --size x": "--size is a whole number from 1 upwards, not x",
    "a b --size 0": "--size is a whole number from 1 upwards, not 0",
    "a b --size 1.5": "--size is a whole number from 1 upwards, not 1.5",
    "a b --share nan": "--share is a number from 0 upwards, not nan",
    "a b --share inf": "--share is a number from 0 upwards, not inf",
    "a b --colour blu": "--colour is red or blue, not blu (did you mean blue?)",
    "a b --quick=yes": "--quick takes no value; write --quick alone, or leave it out",
}


@pytest.mark.parametrize("line", _WRONG)
def test_a_mistake_is_one_sentence(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        COMMAND.run(line.split())
    assert str(caught.value) == _WRONG[line]


@pytest.mark.parametrize(
    "line", ["--help", "a b -qh", "a --zzz=1 -h", "--size x --help", "--size --help", "-q=1 -h"]
)
def test_help_counts_before_everything_else(line: str) -> None:
    with pytest.raises(HelpWanted):
        COMMAND.run(line.split())


def test_help_as_a_value() -> None:
    assert run("a", "--name=--help", "-n-h", "--", "-h")["flags"].names == ["--help", "-h"]


def test_a_page() -> None:
    assert (
        page_of(COMMAND)
        == """\
Paint FIRST and OTHER.

Usage: bnfold paint FIRST OTHER... [options]

Arguments:
  FIRST  What comes first.
  OTHER  What follows.

Options:
  -s, --size NUMBER      How large. [default: 3]
      --share NUMBER     How much.
  -n, --name TEXT        Who. [may be repeated]
  -c, --colour red|blue  Which. [default: red]
      --shiny, --dull    Shiny. [default: --shiny]
  -q, --quick            Quick.
  -h, --help             Show this page.
"""
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_page_fits_and_shows_flags_as_flags(name: str) -> None:
    command = command_of(name)
    page = page_of(command)
    lines = page.splitlines()
    assert max(map(len, lines)) <= 80 and all(line == line.rstrip() for line in lines)
    for spec in command.specs:
        name = spec.names[0] if spec.names else spec.metavar
        shown = next(each for each in lines if re.search(rf"(^| ){re.escape(name)}( |,|$)", each))
        if spec.is_flag:
            assert spec.metavar not in shown.split("  ")[0]


def test_the_overview_says_what_the_commands_do() -> None:
    """The sentences stand in a table, so that --help imports no command."""
    page = " ".join(overview("What it is.", COMMANDS).split())
    for name, sentence in COMMANDS.items():
        assert f"{name} {sentence}" in page
        assert command_of(name).summary.split()[0] == sentence.split()[0]


_LINES = {
    "nonsense": "has no command nonsense",
    "inspekt model.onnx": "did you mean inspect?",
    "--nonsense": "options stand behind the command",
    "inspect model.onnx --formt json": "did you mean --format?",
    "fold modle.onnx -o out.onnx": "did you mean model.onnx?",
    "inspect folder/model.onx": "did you mean folder/model.onnx?",
    "inspect model.onnx --data digts.npz": "did you mean digits.npz?",
    "fold net.py:make -o o.pt2 --weights w.ptt": "did you mean w.pth?",
    "fold nte.py:make -o o.pt2": "did you mean net.py?",
    "inspect net.py": "net.py:make (there are make, Net)",
    "inspect folder": "folder/*.onnx",
    "inspect nothing/*.onnx": "no file matches nothing/*.onnx",
    "inspect model.onnx --baseline bas.json": "did you mean base.json?",
    "inspect model.onnx --baseline net.py": "net.py is no baseline",
    "inspect model.onnx --config bnfold.tml": "did you mean bnfold.toml?",
    "inspect model.onnx --config x.toml --isolated": "leave out --config",
    "rule BN9": "no rule is called BN9",
    "completion tcsh": "SHELL is bash, zsh or fish, not tcsh",
}


@pytest.mark.parametrize("line", _LINES)
def test_usage_errors_of_the_whole(line: str, command: Runs, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.onnx").touch()
    for name in ("digits.npz", "w.pth", "base.json", "bnfold.toml", "x.toml"):
        (tmp_path / name).touch()
    (tmp_path / "net.py").write_text("def make():\n    return Net()\n\nclass Net:\n    pass\n")
    outcome = command(*line.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert _LINES[line] in outcome.err
    is_one_sentence(outcome.err)
