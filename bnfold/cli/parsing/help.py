"""The page that --help prints."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum

from bnfold.cli.parsing.command import Command
from bnfold.cli.parsing.declare import HELP, Option, Spec

_INDENT, _LEFT, _WIDEST = 2, 26, 100
_GENERAL = "Options"


def page_of(command: Command) -> str:
    """All that a command takes."""
    arguments = [s for s in command.specs if s.is_argument]
    usage = " ".join(_usage(s) for s in arguments)
    panels: dict[str, list[tuple[str, str]]] = {_GENERAL: []}
    for spec in command.specs:
        if isinstance(spec.declared, Option):
            panels.setdefault(spec.declared.panel, []).append((_left(spec), _right(spec)))
    panels[_GENERAL].append((_left(HELP), _right(HELP)))
    lines = [
        *_wrapped(command.summary),
        "",
        f"{_bold('Usage')}: bnfold {command.name} {f'{usage} ' if usage else ''}[options]",
        *_panel("Arguments", [(s.metavar, s.help) for s in arguments]),
    ]
    for title, rows in panels.items():
        lines += _panel(title, rows)
    return "\n".join(lines) + "\n"


def overview(sentence: str, commands: Mapping[str, str]) -> str:
    """All commands."""
    options = [("--version", "Print the version."), (_left(HELP), _right(HELP))]
    return "\n".join(
        [
            *_wrapped(sentence),
            "",
            f"{_bold('Usage')}: bnfold COMMAND [options]",
            *_panel("Commands", list(commands.items())),
            *_panel("Options", options),
            "",
            "bnfold COMMAND --help shows what a command takes.\n",
        ]
    )


def _panel(title: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield f"{_bold(title)}:"
    left = min(max(len(name) for name, _ in rows) + 2, _LEFT)
    for name, text in rows:
        lines = list(_wrapped(text, " " * (_INDENT + left)))
        if len(name) + 2 <= left:
            lines[0] = " " * _INDENT + name.ljust(left) + lines[0].lstrip()
        else:
            yield " " * _INDENT + name
        yield from lines


def _usage(spec: Spec) -> str:
    name = f"{spec.metavar}..." if spec.many else spec.metavar
    return name if spec.required else f"[{name}]"


def _left(spec: Spec) -> str:
    """``-o, --output FILE``; flags have nothing behind them."""
    long = [name for name in spec.names if name.startswith("--")]
    short = [name for name in spec.names if not name.startswith("--")]
    names = ", ".join([*short, *long])
    if not short:
        names = f"    {names}"
    if spec.negative:
        names += f", {spec.negative}"
    return names if spec.is_flag else f"{names} {spec.metavar}"


def _right(spec: Spec) -> str:
    assert isinstance(spec.declared, Option)
    default = spec.declared.default
    if default is None and spec.default not in (None, False, True):
        value = spec.default.value if isinstance(spec.default, Enum) else spec.default
        default = f"{value:g}" if isinstance(value, float) else str(value)
    if spec.negative:
        default = spec.names[0] if spec.default else spec.negative
    notes = [f"default: {default}"] if default else []
    if spec.required:
        notes.append("required")
    if spec.many:
        notes.append("may be repeated")
    return f"{spec.help} [{'; '.join(notes)}]" if notes else spec.help


def _wrapped(text: str, indent: str = "") -> Iterator[str]:
    columns = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    yield from textwrap.wrap(
        text,
        max(min(columns, _WIDEST), 40),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _bold(text: str) -> str:
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\x1b[1m{text}\x1b[0m" if coloured else text
