"""Calling torch without its warnings, and its errors in one line."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")


def quietly(action: Callable[[], _T]) -> _T:
    """Runs ``action`` without torch's warnings and log about its own internals.

    What went wrong is said in one sentence by whoever catches the exception; BNFOLD_DEBUG=1 leaves
    torch its log.
    """
    with warnings.catch_warnings(), _no_log():
        warnings.simplefilter("ignore")
        return action()


@contextmanager
def _no_log() -> Iterator[None]:
    if os.environ.get("BNFOLD_DEBUG") == "1":
        yield
        return
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "torch"]
    silenced = [logger for logger in map(logging.getLogger, names) if not logger.disabled]
    # Loggers that torch makes meanwhile come to the handlers of those that are there.
    handlers = [handler for logger in silenced for handler in logger.handlers]
    for logger in silenced:
        logger.disabled = True
    for handler in handlers:
        handler.addFilter(_nothing)
    try:
        yield
    finally:
        for logger in silenced:
            logger.disabled = False
        for handler in handlers:
            handler.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def first_line(error: BaseException) -> str:
    """The first line of an exception's text that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0].rstrip(".") if lines else type(error).__name__
    return text[:300]
