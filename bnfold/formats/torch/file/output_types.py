"""Types of what a ``.pt2`` program takes or returns, which torch knows once their package is imported.

Hugging Face's outputs are such: the file names their classes, and loading it needs these.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import zipfile
from pathlib import Path

from torch.utils import _pytree as pytree

# Inside a string of JSON inside JSON, quotes come with backslashes.
_TYPE = re.compile(r'\\*"type\\*":\s*\\*"([A-Za-z_][\w.]*\.[A-Za-z_]\w*)\\*"')


def unknown_types(path: Path) -> list[str]:
    """The types that an exported program names and that torch does not know yet."""
    found: dict[str, None] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".json") and ("models/" in name or "serialized_" in name):
                    text = archive.read(name).decode("utf-8", "replace")
                    found |= dict.fromkeys(_TYPE.findall(text))
    except (OSError, zipfile.BadZipFile):
        return []
    known = pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE
    return [name for name in found if name not in known]


def import_homes(types: list[str]) -> bool:
    """Imports the modules of these types, where they are of installed packages; whether any was.

    A file next to the model is never imported: only what stands in an installed distribution.
    """
    installed = importlib.metadata.packages_distributions()
    imported = False
    for name in types:
        if name.partition(".")[0] in installed:
            try:
                importlib.import_module(name.rpartition(".")[0])
            except ImportError:
                continue
            imported = True
    return imported
