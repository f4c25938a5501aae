"""The report on stdout: in whatever encoding, and where nobody takes it."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from bnfold.errors import OutputError
from bnfold.showable import showable

_ERRORS = "bnfold"
_PLAIN = {
    "↑": "^", "↓": "v", "→": "->", "…": "...", "×": "x", "σ": "sd", "∞": "inf", "−": "-", "–": "-",
    "—": "-", "√": "sqrt", "γ": "gamma", "β": "beta", "δ": "delta", "ε": "eps", "≥": ">=", "≤": "<=",
    "↕": "^v", "²": "^2", "·": "*", "±": "+-",
    "🔴": "(!!)", "🟡": "(!)", "⚪": "(-)",
}  # fmt: skip


def prepare_streams() -> None:
    """Lets stdout and stderr print any text: what their encoding lacks is written otherwise."""
    codecs.register_error(_ERRORS, _encodable)
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_ERRORS)


def _encodable(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    found = error.object[error.start : error.end]
    plain = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in found)
    return "".join(plain), error.end


def print_report(show: Callable[[], None], written: str | None = None, stream: Any = None) -> None:
    """Prints a report. Where a file was ``written``, that it cannot be printed is a remark only.

    What was done decides the exit code: the caller's business.

    Raises:
        OutputError: where nothing was written, so that the report is all there is.
    """
    try:
        show()
        (stream or sys.stdout).flush()
    except OSError as error:
        discard_stdout()
        reader_is_gone = isinstance(error, BrokenPipeError)
        if written is None and reader_is_gone:  # as with `| head`
            return
        reason = error.strerror or str(error)
        if written is None:
            raise OutputError(f"the report could not be printed: {reason}") from None
        say(f"the report could not be printed ({reason}), but {written} was written")


def discard_stdout() -> None:
    """Lets what is still to be printed go nowhere; Python would try once more at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        pass
    finally:
        os.close(nowhere)


def say(sentence: str) -> None:
    """One sentence on stderr, as far as anybody hears it."""
    with suppress(OSError, ValueError):
        print(f"bnfold: {showable(sentence)}", file=sys.stderr, flush=True)
