"""Which paths may be written: never a file that the command reads, never another one that it writes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bnfold.errors import OutputError


@dataclass(frozen=True)
class Use:
    """A file that a command reads or writes, and as what.

    ``what`` completes the sentence "FILE is …". ``replaceable``: with ``--force``.
    """

    path: Path
    what: str
    replaceable: bool = False


def check_destination(
    target: Path, option: str, uses: Iterable[Use] = (), *, force: bool = False
) -> None:
    """Refuses a destination that cannot or must not be written.

    Args:
        target: the path to write.
        option: what the user named it with, ``-o`` say.
        uses: the other files of the command.
        force: the user allows what is replaceable to be replaced.

    Raises:
        OutputError: with the reason and what to do.
    """
    if target.is_dir():
        raise OutputError(f"{target} is a folder; name a file with {option}")
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} does not exist; create it first")
    for use in uses:
        if same_file(target, use.path) and not (use.replaceable and force):
            way = (
                "add --force to overwrite it" if use.replaceable else f"name another with {option}"
            )
            raise OutputError(f"{target} is {use.what}; {way}")
    # A file is written beside it and renamed, which would put an end to what it is now.
    if target.is_symlink():
        raise OutputError(f"{target} is a link; name the file that it points to with {option}")
    if target.exists() and not target.is_file():
        raise OutputError(
            f"{target} is no ordinary file (a device or a pipe); name a file with {option}"
        )
    if target.exists() and not os.access(target, os.W_OK):
        raise OutputError(f"{target} is not writable; choose another file with {option}")
    if not os.access(target.parent, os.W_OK):
        raise OutputError(
            f"the folder {target.parent} is not writable; choose another with {option}"
        )


def same_file(a: Path, b: Path) -> bool:
    """Whether both paths lead to one file, there already or not."""
    try:
        return a.samefile(b)
    except (OSError, ValueError):  # one of them is not there
        return os.path.realpath(a) == os.path.realpath(b)
