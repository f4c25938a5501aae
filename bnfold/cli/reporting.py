"""Printing what a command found, of one model or of several, in one report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bnfold.cli.destinations import Destinations
from bnfold.cli.models import on_model
from bnfold.cli.streams import print_report, say
from bnfold.errors import BnfoldError, OutputError

Show = Callable[[Any], None]


class Report:
    """The report of a command: text as it comes, everything else when all is there."""

    def __init__(
        self,
        command: str,
        format: str = "text",
        *,
        verbose: bool = False,
        quiet: bool = False,
        several: bool = False,
        configuration: Any = None,
        stream: Any = None,
    ) -> None:
        """Prepares to print.

        Args:
            command: whose report it is.
            format: how it is printed.
            verbose: every layer (text).
            quiet: nothing where all is well (text).
            several: whether several models were named.
            configuration: see `reports.envelope.head`.
            stream: where to print; stdout by default.
        """
        self._command, self._format, self._stream = command, format, stream
        self._verbose, self._quiet, self._several = verbose, quiet, several
        self._configuration = configuration
        self._found: list[Any] = []
        self._written: list[str] = []
        self._failed: list[dict[str, Any]] = []
        self._summaries: list[Mapping[str, int]] = []
        self.code = 0

    def add(self, result: Any, code: int, written: str | None = None) -> None:
        """Takes a result.

        Args:
            result: what a job returned.
            code: the exit code that it calls for.
            written: the file that was written meanwhile.
        """
        self.code = max(self.code, code)
        self._written += [written] if written else []
        self._summaries.append(getattr(result, "summary", {}))
        if self._format == "text":
            if not self._quiet or code:
                self._print(lambda: self._text(result), written)
        else:
            for warning in getattr(result, "warnings", ()):
                say(f"warning: {warning}")
            self._found.append(result)

    def fail(self, name: str, error: BnfoldError) -> None:
        """Takes what went wrong with one model of several."""
        self.code = 2
        say(str(error))
        self._failed.append({"model": {"path": name}, "error": str(error)})

    def close(self) -> int:
        """Prints what is left, and returns the exit code."""
        if not self._summaries and not self._failed:  # another process speaks
            return self.code
        written = self._written[0] if self._written else None
        if self._format != "text":
            self._print(self._rest, written)
        elif self._several and not (self._quiet and not self.code):
            self._print(self._total, written)
        return self.code

    def _print(self, show: Callable[[], None], written: str | None) -> None:
        print_report(show, written, self._stream or sys.stdout)

    def _text(self, result: Any) -> None:
        from bnfold.reports.text import render

        if self._several and self._found:
            print(file=self._stream)
        self._found.append(None)
        render(result, verbose=self._verbose, file=self._stream)

    def _total(self) -> None:
        from bnfold.reports.envelope import total
        from bnfold.reports.text import print_total

        print(file=self._stream)
        print_total(total(self._summaries, len(self._failed)), self._stream)

    def _rest(self) -> None:
        stream = self._stream or sys.stdout
        if self._format == "json":
            stream.write(self._json())
        elif self._format == "sarif":
            from bnfold.reports import sarif

            stream.write(sarif.render(*self._found))
        else:
            from bnfold.reports import github, markdown

            module = {"github": github, "markdown": markdown}[self._format]
            stream.write("\n".join(filter(None, map(module.render, self._found))))

    def _json(self) -> str:
        from bnfold.reports import json_text
        from bnfold.reports.envelope import head, together

        first = head(self._command, self._configuration)
        documents = [result.to_json() for result in self._found]
        if self._several:
            return json_text(together(first, [*documents, *self._failed]))
        (document,) = documents
        return json_text({**first, **document})


def reported(
    report: Report, names: Sequence[str], work: Callable[[str], tuple[Any, int, str | None] | None]
) -> int:
    """Does ``work`` on each model, reports it, and returns the exit code: the worst of all.

    Of several models, one that fails does not end the others. Where ``work`` gives nothing, another
    process speaks of the model.
    """
    for name in names:
        try:
            if (found := on_model(name, work)) is not None:
                report.add(*found)
        except BnfoldError as error:
            if len(names) == 1:
                raise
            report.fail(name, error)
    return report.close()


def finished(result: Any, targets: Destinations, page: Path | None) -> tuple[Any, int, str | None]:
    """Of a model that was written, or refused, what `Report.add` takes; its page is written as well."""
    result = targets.named(result)
    written = None if result.output is None else result.output.path
    write_page(result, page, written)
    return result, int(not result.ok), written


def write_page(result: Any, page: Path | None, written: str | None = None) -> None:
    """Writes the page of a result, where one is wanted; ``written`` is there already."""
    if page is None:
        return
    from bnfold.reports import html
    from bnfold.reports.envelope import created

    origin = html.Origin(shlex.join(["bnfold", *sys.argv[1:]]), created())
    try:
        html.write_page(result, page, origin)
    except OutputError as error:
        if written is None:
            raise
        raise OutputError(f"the page: {error}; {written} was written") from None
