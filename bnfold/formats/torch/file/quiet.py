"""Calling torch without its warnings, and its errors in one line."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def quietly(action: Callable[[], _T]) -> _T:
    """Runs ``action`` without torch's warnings about its own internals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return action()


def first_line(error: BaseException) -> str:
    """The first line of an exception's text that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0].rstrip(".") if lines else type(error).__name__
    return text[:300]
