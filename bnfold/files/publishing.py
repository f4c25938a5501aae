"""Atomic writing: finished files move to where they belong by one last rename, flushed to the disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bnfold.errors import OutputError
from bnfold.files.scratch import locked, note_publishing, scratch_folder, undisturbed
from bnfold.files.source import file_sha256


def publish(files: Sequence[Path], target: Path) -> None:
    """Moves finished files out of a scratch folder; the last one becomes ``target``.

    The others are named by their content (see `content_name`): where one of that name and the same
    bytes is there, it serves; none is ever replaced. So the last rename decides: before it there is
    the old model, complete, and after it the new one.

    Raises:
        OutputError: where a file that is not this model's own is in the way.
    """
    *others, model = files
    for file in files:
        _take_over_mode(file, target)
        _flush(file)
    with undisturbed(), locked(target.parent):
        new = [file for file in others if not _is_there(file, target.parent / file.name)]
        note_publishing(model.parent, target, [file.name for file in new])
        for file in new:
            os.rename(file, target.parent / file.name)
        os.replace(model, target)
        _flush(target.parent)


def publish_text(text: str, target: Path) -> None:
    """Writes a text file, whole or not at all.

    Raises:
        OutputError: where it cannot be written.
    """
    with scratch_folder(target) as scratch:
        file = scratch / target.name
        file.write_text(text, encoding="utf-8")
        publish([file], target)


def _is_there(file: Path, place: Path) -> bool:
    """Whether the same bytes are at ``place`` already."""
    if not os.path.lexists(place):
        return False
    if place.is_file() and not place.is_symlink() and file_sha256(place) == file_sha256(file):
        return True
    raise OutputError(
        f"{place} is in the way and not this model's own; move it, or name another -o"
    )


def _take_over_mode(file: Path, target: Path) -> None:
    """Who may read and write ``target`` as it is may do so with what replaces it."""
    try:
        old = target.stat()
    except FileNotFoundError:
        return
    os.chmod(file, stat.S_IMODE(old.st_mode) & 0o777)
    if hasattr(os, "chown") and old.st_uid != os.geteuid():
        with suppress(OSError):  # only root may give files away
            os.chown(file, old.st_uid, old.st_gid)


def _flush(path: Path) -> None:
    """Makes sure that the disk has it, which a rename alone does not."""
    with suppress(OSError):  # not every file system can flush a folder
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
