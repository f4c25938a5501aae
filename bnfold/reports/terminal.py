"""The terminal as reports need it: text that fits, or that is left alone where it goes into a pipe."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from rich import markup
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from bnfold.showable import showable

# As wide as a line can become where nothing is wrapped: rich makes no more of it than there is text.
UNLIMITED = 1_000_000
_LEAST = 16
WARNING = "warning:"
# Blanks at the end of a line, and the codes of colours among them.
_TRAILING = re.compile(r" +((?:\x1b\[[0-9;]*m| )*)(?=\n|$)")


def escape(text: str) -> str:
    """``text`` so that it is shown as it is, and does nothing."""
    return markup.escape(showable(text))


class ReportConsole(Console):
    """A console on stdout, or on ``file``.

    A terminal gets text wrapped between words and tables that fit it. Anything else (a pipe, a
    file) gets each line whole: a name in it can be searched for, and cut out by its column.
    """

    def __init__(self, file: IO[str] | None = None, width: int | None = None) -> None:
        """A console.

        Args:
            file: where to print; stdout by default.
            width: of what is printed; that of the terminal by default, UNLIMITED outside one.
        """
        target = sys.stdout if file is None else file
        if width is None and not target.isatty():
            width = UNLIMITED
        trimmed: Any = _Trimmed(target)
        colours: Any = "auto" if file is None else None
        super().__init__(file=trimmed, width=width, highlight=False, color_system=colours)

    def print(self, *objects: Any, indent: int = 0, **options: Any) -> None:
        """Prints a table, or text in markup, which is set in by ``indent``.

        Text is wrapped between words, each part set in as far as its line is; a word that is wider
        than the terminal stays in one piece.
        """
        if not objects or not all(isinstance(each, str) for each in objects):
            super().print(*objects, **options)
            return
        text = Text.from_markup(" ".join(objects))
        for line in text.split("\n", allow_blank=True):
            own = len(line.plain) - len(line.plain.lstrip(" "))
            margin = indent + own
            for part in _wrapped(line[own:], max(self.width - margin, _LEAST)):
                whole = Text(" " * margin).append_text(part)
                super().print(whole, no_wrap=True, overflow="ignore", crop=False, **options)

    def on_broken_pipe(self) -> None:
        """Called while the error is handled; rich itself would end the process with 1."""
        raise


def print_note(note: str, console: ReportConsole) -> None:
    """What a user should know; louder where it begins so."""
    text = note.removeprefix(WARNING)
    head = "[cyan]note:[/]" if text == note else f"[bold yellow]{WARNING}[/]"
    console.print(f"{head} {escape(text.strip())}")


class _Trimmed:
    """A stream that drops the blanks with which rich fills lines up."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(_TRAILING.sub(_without_blanks, text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _without_blanks(found: re.Match[str]) -> str:
    return found[1].replace(" ", "")


def _wrapped(line: Text, width: int) -> Iterator[Text]:
    """Pieces of a line that fit, as far as words allow."""
    start = end = column = 0
    cuts = []
    for word in re.finditer(r"\s*\S+", line.plain):
        column += cell_len(word[0])
        if column > width and end > start:
            start = word.end() - len(word[0].lstrip())
            cuts.append(start)
            column = cell_len(word[0].lstrip())
        end = word.end()
    yield from line.divide(cuts)


@dataclass(frozen=True)
class Name:
    """A name in a table, in markup: its middle is left out where the column is too narrow."""

    markup: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        name = Text.from_markup(self.markup)
        if len(name) > options.max_width:
            tail = (options.max_width - 1) // 2
            head = max(options.max_width - 1 - tail, 0)
            name = Text.assemble(name[:head], "…", name[len(name) - tail :])
        yield name

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = len(Text.from_markup(self.markup))
        return Measurement(min(_LEAST, longest), min(longest, options.max_width))


def name_table(title: str) -> Table:
    """A table whose first column, headed ``title``, holds names, and gives way to the others."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column(title, min_width=_LEAST)
    return table
