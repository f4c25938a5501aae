"""A path at which there is nothing, a name that nothing has: what was meant, perhaps."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def missing(path: Path, otherwise: str = "check the path") -> str:
    """``m.onx does not exist; did you mean m.onnx?``

    Args:
        path: what is not there.
        otherwise: what to do where nothing there is called like it.
    """
    close = _like(path)
    hint = otherwise if close is None else f"did you mean {close}?"
    return f"{path} does not exist; {hint}"


def meant(name: str, known: Iterable[str], otherwise: str) -> str:
    """``did you mean make?``, or ``otherwise`` where nothing in ``known`` is called like ``name``."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]}?" if close else otherwise


def meant_in(home: Any, name: str, otherwise: str) -> str:
    """`meant` for what can be called in a module or a class."""
    known = getattr(home, "__dict__", {}).items()
    named = (key for key, value in known if callable(value) and not key.startswith("_"))
    return meant(name, named, otherwise)


def _like(path: Path) -> Path | None:
    """What lies in the same folder under a similar name."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        folder = _like(path.parent) if path.parent != path else None
        found = None if folder is None else folder / path.name
        return found if found is not None and found.exists() else None
    close = difflib.get_close_matches(path.name, names, 1, cutoff=0.7)
    return path.parent / close[0] if close else None
