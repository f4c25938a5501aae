"""A folder for data that has to be unpacked or noted down, gone when the process ends."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from bnfold.errors import DataError
from bnfold.files.scratch import make_folder

_SHARE_OF_DISK = 0.5


@cache
def temporary_folder() -> Path:
    """The folder, made when it is first needed."""
    return make_folder(Path(tempfile.gettempdir()))


def check_room(size: int, where: object, *, limited: bool = True) -> None:
    """Refuses to unpack more than half of what is free on the disk.

    Raises:
        DataError: with what to do.
    """
    free = shutil.disk_usage(temporary_folder()).free
    if limited and size > free * _SHARE_OF_DISK:
        raise DataError(
            f"{where} unpacks to {size:,} bytes, and {free:,} are free in {temporary_folder().parent}; "
            "set TMPDIR to a larger disk, take fewer samples, or add --no-size-limit"
        )
