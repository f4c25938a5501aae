"""Decompression bombs: refuses archives that unpack to far more than they hold."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from bnfold.errors import BnfoldError

LARGE, _RATIO = 1 << 28, 100


def check_ratio(
    path: Path, info: zipfile.ZipInfo, refuse: Callable[[str], BnfoldError], way: str = ""
) -> None:
    """Refuses a record of a zip archive that is large and was made of next to nothing.

    Args:
        path: the archive.
        info: the record.
        refuse: makes the error to raise from a sentence.
        way: what the user may do about it.

    Raises:
        BnfoldError: of the kind of ``refuse``.
    """
    if info.file_size > LARGE and info.file_size > _RATIO * max(info.compress_size, 1):
        raise refuse(
            f"{path} holds {info.filename}, which unpacks from {info.compress_size:,} to "
            f"{info.file_size:,} bytes; {way or 'no model needs that: get it from where it was made'}"
        )
