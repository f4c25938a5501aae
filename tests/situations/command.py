"""The command line as tests call it: in this process, its streams and exit code caught."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from bnfold.cli import parsing
from bnfold.errors import BnfoldError


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Called(NamedTuple):
    exit_code: int
    stdout: str
    exception: BnfoldError | None


def called(function: Callable[..., int], *words: object) -> Called:
    """A command's function with these words, its streams and its error caught."""
    out = io.StringIO()
    try:
        with redirect_stdout(out):
            code = parsing.Command.of(function).run(list(map(str, words)))
    except BnfoldError as error:
        return Called(2, out.getvalue(), error)
    return Called(code, out.getvalue(), None)


Command = Callable[..., Outcome]


def files_in(place: Path) -> set[str]:
    return {p.name for p in place.iterdir()}


def is_one_sentence(text: str) -> None:
    assert text.startswith("bnfold: ")
    assert text.count("\n") == 1
    for word in ("Traceback", "unexpected", "Error:", "ONNXRuntimeError"):
        assert word not in text
