"""Temporary folders for unfinished output: removed at the end, or by the next run where a process was killed.

A killed process cannot clean up. So each folder holds a locked file, which the system unlocks when
its process dies, and whoever makes the next folder in the same place removes those that are locked
no longer. A live one cannot be taken for a dead one.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bnfold.errors import OutputError
from bnfold.files.source import file_sha256

try:
    import fcntl
except ImportError:  # Windows: a dead process leaves its folders
    fcntl = None  # type: ignore[assignment]

_PREFIX, _LOCK, _JOURNAL = ".bnfold-", ".lock", ".publishing"
_OURS = re.compile(r"\.bnfold-[a-z0-9_]{8}")
_HASH_LENGTH, _PATIENCE = 12, 2.0

# Folders of this process, with its number (which a fork does not have) and the descriptor of the lock.
_live: dict[Path, tuple[int, int]] = {}


def any_live() -> bool:
    """Whether this process has anything to clean up."""
    return bool(_live)


@contextmanager
def scratch_folder(target: Path | None = None) -> Iterator[Path]:
    """A folder beside ``target`` (on the same file system), removed at the end, errors included.

    Raises:
        OutputError: where it cannot be made, or writing into it fails.
    """
    folder = make_folder(Path(tempfile.gettempdir()) if target is None else target.parent)
    try:
        yield folder
    except OSError as error:
        raise OutputError(f"writing failed: {error.strerror or error}") from None
    finally:
        remove_folder(folder)


def make_folder(parent: Path) -> Path:
    """A folder of this process in ``parent``; those of dead processes there are removed.

    Raises:
        OutputError: where it cannot be made.
    """
    try:
        with undisturbed(), locked(parent):
            _sweep(parent)
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            _live[folder] = os.getpid(), descriptor
            _try_lock(descriptor)
    except OSError as error:
        raise OutputError(f"no temporary folder can be made: {error}") from None
    return folder


def remove_folder(folder: Path) -> None:
    """Removes a folder of this process."""
    with undisturbed(), suppress(OSError), locked(folder.parent):
        _dispose(folder)
    _, descriptor = _live.pop(folder, (0, None))
    if descriptor is not None:
        os.close(descriptor)


@atexit.register
def _remove_all() -> None:
    """What an exception at the wrong moment left."""
    for folder, (owner, _) in list(_live.items()):
        if owner == os.getpid():
            remove_folder(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes of bnfold from publishing or cleaning up in ``folder`` meanwhile.

    Whoever does not get the lock in two seconds goes on without it: nothing but the cleaning up of
    a file that two runs wrote at the same time rests on it.
    """
    descriptor = os.open(folder, os.O_RDONLY) if fcntl is not None else None
    try:
        end = time.monotonic() + _PATIENCE
        while descriptor is not None and not _try_lock(descriptor) and time.monotonic() < end:
            time.sleep(0.01)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Lets Ctrl-C and its like wait until something short is done."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def note_publishing(folder: Path, target: Path, others: list[str]) -> None:
    """Notes which files appear beside ``target`` before ``target`` itself does."""
    (folder / _JOURNAL).write_text("\n".join((target.name, *others)), encoding="utf-8")


def content_name(name: str, digest: str) -> str:
    """The name of a file that belongs to ``name``, by its own content."""
    return f"{name}.{digest[:_HASH_LENGTH]}.data"


def older_data(target: Path) -> list[Path]:
    """Files beside ``target`` that `content_name` named for it."""
    pattern = re.compile(rf"{re.escape(target.name)}\.[0-9a-f]{{{_HASH_LENGTH}}}\.data")
    return sorted(p for p in target.parent.iterdir() if pattern.fullmatch(p.name))


def _try_lock(descriptor: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody else has it, or the file system knows no locks
        return False
    return True


def _sweep(parent: Path) -> None:
    """Removes what dead processes left in ``parent``."""
    with os.scandir(parent) as entries:
        found = [Path(e.path) for e in entries if _OURS.fullmatch(e.name)]
    for folder in found:
        if folder in _live or folder.is_symlink():
            continue
        with suppress(OSError):  # somebody else's
            if _is_dead(folder):
                _dispose(folder)


def _is_dead(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        # Killed between making the folder and locking it: empty, or none of ours.
        return not any(folder.iterdir())
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _dispose(folder: Path) -> None:
    """Removes a folder, the lock last: killed on the way, it is still known for what it is."""
    _withdraw(folder)
    for entry in folder.iterdir():
        if entry.name == _LOCK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    (folder / _LOCK).unlink(missing_ok=True)
    folder.rmdir()


def _withdraw(folder: Path) -> None:
    """Removes files that were published for a model that never was."""
    journal = folder / _JOURNAL
    if not journal.is_file():
        return
    name, *others = journal.read_text(encoding="utf-8").split("\n")
    if not others or not (folder / name).exists():
        return  # it was published, and they are its own
    target = folder.parent / name
    content = target.read_bytes() if target.is_file() else b""
    for other in others:
        file = folder.parent / other
        if other.encode() not in content and _is_orphan(file, folder.parent, name):
            file.unlink()


def _is_orphan(file: Path, parent: Path, owner: str) -> bool:
    """Whether `content_name` named it; a journal may be forged, and no other file must go."""
    if file.parent != parent or file.is_symlink() or not file.is_file():
        return False
    return file.name == content_name(owner, file_sha256(file))
