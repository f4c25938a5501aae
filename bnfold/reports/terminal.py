"""The terminal as reports need it: foreign text in rich's markup, and a pipe that breaks."""

from __future__ import annotations

from rich import markup
from rich.console import Console

from bnfold.showable import showable


def escape(text: str) -> str:
    """``text`` so that it is shown as it is, and does nothing."""
    return markup.escape(showable(text))


class ReportConsole(Console):
    """A console on stdout that leaves it to the command line what a broken pipe means."""

    def on_broken_pipe(self) -> None:
        """Called while the error is handled; rich itself would end the process with 1."""
        raise
