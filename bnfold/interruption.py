"""Ctrl-C, SIGTERM and SIGHUP: clean up, say one sentence, end with 128 and the signal's number.

Imported and set up before anything else: for half a second there is nothing but imports, which an
exception out of nowhere would leave with a traceback. While there is nothing to clean up, the
process ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread; ``exit_code`` is what the shell expects."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number

    @property
    def exit_code(self) -> int:
        return 128 + self.number

    @property
    def sentence(self) -> str:
        what = "interrupted" if self.number == signal.SIGINT else f"ended by {self._name}"
        return f"bnfold: {what}; nothing is left half-written"

    @property
    def _name(self) -> str:
        return signal.Signals(self.number).name


def install() -> None:
    """Takes the signals over, but those that the caller ignores, as ``nohup`` does."""
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def _handle(number: int, frame: Any) -> None:
    error = Interrupted(number)
    if _has_work():
        raise error
    end(error)


def _has_work() -> bool:
    scratch = sys.modules.get("bnfold.files.scratch")
    return scratch is not None and scratch.any_live()


def end(error: Interrupted) -> NoReturn:
    """Says so, and ends the process as it is."""
    with suppress(OSError):
        os.write(2, f"{error.sentence}\n".encode())
    os._exit(error.exit_code)
