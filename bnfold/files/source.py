"""Reading a file that another program may change meanwhile: never memory-mapped, a change is noticed.

A file that is cut short while it is mapped into memory ends the process (SIGBUS), and one that is
replaced between two reads makes a mixture of both. So files are read, not mapped, and each read
compares which file it is with what was there at first.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bnfold.errors import BnfoldError, ModelError

_PIECE = 1 << 18  # bytes, which stay in the processor's cache
# Without O_NONBLOCK opening a pipe would wait for somebody who writes into it.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_FLAGS |= getattr(os, "O_BINARY", 0)

Refuse = Callable[[str], BnfoldError]
Identity = tuple[int, int, int, int]


def check_regular(path: Path, refuse: Refuse = ModelError) -> None:
    """Refuses what is no ordinary file: reading a pipe or a device may never end.

    A path at which there is nothing passes; whoever opens it says so.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise refuse(
            f"{path} is no ordinary file (a pipe or a device); write its content to a file, and "
            "name that"
        )


class SourceFile:
    """One file to read from, as it was when it was first opened.

    No descriptor is held, as a model may have hundreds of data files.
    """

    def __init__(self, path: Path, refuse: Refuse = ModelError) -> None:
        """Notes which file it is.

        Args:
            path: an ordinary file.
            refuse: makes the error to raise from a sentence.

        Raises:
            OSError: where it cannot be opened.
            BnfoldError: of the kind of ``refuse``, where it is a folder, a pipe or a device.
        """
        self.path, self._refuse = path, refuse
        check_regular(path, refuse)
        with _opened(path) as file:
            found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise refuse(f"{path} is no ordinary file; name a file")
        self.size = found.st_size
        self._identity = _identity(found)

    def read(self, offset: int, length: int) -> bytearray:
        """``length`` bytes from ``offset`` on.

        Raises:
            BnfoldError: of its kind, where the file changed meanwhile.
        """
        found = bytearray(length)
        self.read_into(offset, memoryview(found))
        return found

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fills ``target``, a view of bytes, from ``offset`` on."""
        with self._same() as file:
            file.seek(offset)
            self._fill(file, target)

    def pieces(self, offset: int, length: int) -> Iterator[memoryview]:
        """The same in pieces, for what is only carried across.

        Each piece holds only until the next one is asked for.
        """
        whole, rest = divmod(length, _PIECE)
        return self.parts(offset, [_PIECE] * whole + [rest] * bool(rest))

    def parts(self, offset: int, lengths: Sequence[int]) -> Iterator[memoryview]:
        """Consecutive parts of these lengths, from ``offset`` on.

        Each part holds only until the next one is asked for.
        """
        room = memoryview(bytearray(max(lengths, default=0)))
        with self._same() as file:
            file.seek(offset)
            for length in lengths:
                self._fill(file, room[:length])
                yield room[:length].toreadonly()
                self._compare(file)

    def _fill(self, file: io.FileIO, target: memoryview) -> None:
        done = 0
        while done < len(target):
            got = file.readinto(target[done:])
            if not got:
                raise self._changed()
            done += got

    def check(self) -> None:
        """Compares the file with what it was when it was first opened.

        Raises:
            BnfoldError: of its kind, where it is another one, or was written to.
        """
        with self._same():
            pass

    def sha256(self) -> str:
        """The hex digest of the bytes that were read."""
        digest = hashlib.sha256()
        for piece in self.pieces(0, self.size):
            digest.update(piece)
        return digest.hexdigest()

    @contextmanager
    def _same(self) -> Iterator[io.FileIO]:
        """The file, which is the same before and after."""
        try:
            with _opened(self.path) as file:
                self._compare(file)
                yield file
                self._compare(file)
        except OSError as error:
            raise self._refuse(f"{self.path} can no longer be read: {error.strerror}") from None

    def _compare(self, file: io.FileIO) -> None:
        if _identity(os.fstat(file.fileno())) != self._identity:
            raise self._changed()

    def _changed(self) -> BnfoldError:
        return self._refuse(
            f"{self.path} was changed while bnfold read it; start again when it is complete"
        )


def _opened(path: Path) -> io.FileIO:
    return io.FileIO(path, "rb", opener=lambda name, _: os.open(name, _FLAGS))


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def file_sha256(path: Path) -> str:
    """The hex digest of a file, read in pieces."""
    return SourceFile(path).sha256()
