"""The models that a command line names: files, globs of them, factories, and - for stdin."""

from __future__ import annotations

import glob
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from bnfold.errors import BnfoldError, ModelError, UsageError

STDIN = "-"
R = TypeVar("R")


def expanded(names: Sequence[str]) -> list[str]:
    """What ``names`` mean, each once: a shell that expands no globs, or quotes, change nothing.

    Raises:
        ModelError: where a glob matches nothing.
    """
    found: dict[str, None] = {}
    for name in names:
        if glob.has_magic(name) and not Path(name).exists():
            files = sorted(f for f in glob.glob(name, recursive=True) if Path(f).is_file())
            if not files:
                raise ModelError(f"no file matches {name}; check the path")
            found |= dict.fromkeys(files)
        else:
            found[name] = None
    return list(found)


def on_model(name: str, work: Callable[[str], R]) -> R:
    """What ``work`` makes of a model; one from stdin goes through a file, and is called ``-``."""
    if name != STDIN:
        return work(name)
    with _from_stdin() as path:
        try:
            result: R = _renamed(work(str(path)), path)
            return result
        except BnfoldError as error:
            raise type(error)(str(error).replace(str(path), STDIN)) from None


def _renamed(result: Any, path: Path) -> Any:
    """The result of a job, alone or first of a tuple, its model called as the user did."""
    if result is None:
        return None
    if isinstance(result, tuple):
        return (_renamed(result[0], path), *result[1:])
    named = {
        key: replace(info, path=STDIN)
        for key in ("model", "reference", "candidate")
        if (info := vars(result).get(key)) is not None and info.path == str(path)
    }
    return replace(result, **named) if named else result


@contextmanager
def _from_stdin() -> Iterator[Path]:
    """A file with what stands on stdin.

    Raises:
        UsageError: where that is a terminal.
    """
    from bnfold.files import scratch_folder

    if sys.stdin.isatty():
        raise UsageError("- reads a model from stdin, and nothing is piped in; name a file")
    with scratch_folder() as folder:
        path = folder / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path
