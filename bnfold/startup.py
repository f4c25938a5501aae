"""What comes before everything else: signals, and streams that are not there.

Ctrl-C, SIGTERM and SIGHUP: clean up, say one sentence, end with 128 and the signal's number. For the
first half second there is nothing but imports, which an exception out of nowhere would leave with a
traceback. So while there is nothing to clean up, the process ends at once.
"""

from __future__ import annotations

# The builtin part of `signal`, whose import alone takes longer than all of this.
import _signal  # type: ignore[import-not-found]
import gc
import os
import sys

# Not from typing, for the same reason; type checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

_SIGNALS = {
    getattr(_signal, name): name
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(_signal, name)
}
_SIGINT: int = _signal.SIGINT


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread; ``exit_code`` is what the shell expects."""

    def __init__(self, number: int = _SIGINT) -> None:
        super().__init__()
        self.exit_code = 128 + number
        what = "interrupted" if number == _SIGINT else f"ended by {_SIGNALS[number]}"
        self.sentence = f"bnfold: {what}; nothing is left half-written"


def begin() -> None:
    """Sets everything up, where the running program is the command line."""
    if _is_command_line():
        take_signals()
        collect_rarely()
        open_standard_streams()


def _is_command_line() -> bool:
    """Whether this is ``bnfold …`` or ``python -m bnfold …``."""
    program = os.path.splitext(os.path.basename(sys.argv[0]))[0] if sys.argv else ""
    return program == "bnfold" or [*sys.orig_argv, ""][1:3] == ["-m", "bnfold"]


def take_signals() -> None:
    """Takes the signals over, but those that the caller ignores, as ``nohup`` does."""
    for number in _SIGNALS:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, _handle)


def collect_rarely() -> None:
    """Looks for cycles of dead objects less often: a graph of thousands of nodes is alive all the
    time, and walking through it again and again took a quarter of the planning."""
    gc.set_threshold(10_000, 10, 10)


def open_standard_streams() -> None:
    """Opens what the caller closed (``>&-``): else the model's own file would become stdout."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _handle(number: int, frame: FrameType | None) -> None:
    error = Interrupted(number)
    if _has_work():
        raise error
    end(error)


def _has_work() -> bool:
    scratch = sys.modules.get("bnfold.files.scratch")
    return scratch is not None and scratch.any_live()


def end(error: Interrupted) -> NoReturn:
    """Says so, and ends the process as it is."""
    try:  # noqa: SIM105  contextlib is not imported yet
        os.write(2, f"{error.sentence}\n".encode())
    except OSError:
        pass
    os._exit(error.exit_code)
