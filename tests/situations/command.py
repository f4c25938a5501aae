"""The command line as tests call it: in this process, its streams and exit code caught."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Outcome]


def files_in(place: Path) -> set[str]:
    return {p.name for p in place.iterdir()}


def is_one_sentence(text: str) -> None:
    assert text.startswith("bnfold: ")
    assert text.count("\n") == 1
    for word in ("Traceback", "unexpected", "Error:", "ONNXRuntimeError"):
        assert word not in text
