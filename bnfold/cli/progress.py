"""What is being done, on stderr where that is a terminal: from the first second on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bnfold.progress import Progress, no_progress


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Progress]:
    """Gives a callback ``(stage, done, total)``; ``total`` is 1 where nobody knows how much there is.

    A stage has a line while it lasts: a bar where its size is known, a moving one where it is not.
    """
    if quiet or not sys.stderr.isatty():
        yield no_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[share]}"),
        TimeElapsedColumn(),
    )
    current: list[tuple[str, TaskID]] = []
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:

        def show(stage: str, done: int, total: int) -> None:
            size = total if total > 1 else None
            if not current or current[0][0] != stage:
                for _, old in current:
                    bars.remove_task(old)
                current[:] = [(stage, bars.add_task(stage, total=size, share=""))]
            share = f"{done / size:.0%}" if size else ""
            bars.update(current[0][1], completed=done, total=size, share=share)

        yield show
