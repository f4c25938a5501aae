"""Calling torch without its warnings, and its errors in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def quietly(action: Callable[[], _T]) -> _T:
    """Runs ``action`` without torch's warnings and logs about its own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return action()
    finally:
        logging.disable(before)


def first_line(error: BaseException) -> str:
    """The first line of an exception's text that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0].rstrip(".") if lines else type(error).__name__
    return text[:300]
