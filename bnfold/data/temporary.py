"""A folder for data that has to be unpacked or noted down, gone when the process ends."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path


@cache
def temporary_folder() -> Path:
    """The folder, made when it is first needed."""
    folder = Path(tempfile.mkdtemp(prefix="bnfold-data-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
