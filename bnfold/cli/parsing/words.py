"""Reading a command line with argparse; a mistake is one sentence with what to do."""

from __future__ import annotations

import difflib
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from bnfold.cli.parsing.declare import HELP, Option, Spec
from bnfold.errors import UsageError


class HelpWanted(Exception):
    """Somebody typed --help: nothing else counts."""


def parse(words: Sequence[str], specs: Sequence[Spec], command: str) -> dict[str, Any]:
    """The value of each parameter that was given, defaults for the others.

    Args:
        words: what stands behind the command.
        specs: what it takes.
        command: its name, for errors.

    Raises:
        UsageError: where they are not understood.
        HelpWanted: where help is asked for.
    """
    arguments = [s for s in specs if s.is_argument]
    options = {name: s for s in (*specs, HELP) for name in (*s.names, s.negative) if name}
    prepared, behind = _prepared(words, options)
    if any(options.get(word) is HELP for word in prepared):
        raise HelpWanted
    found, others = _read(prepared, options)
    for word in others:
        if word.startswith("-") and word != "-":
            raise _unknown(word, options, command)
    given = {s.key: _values(s, found, command) for s in specs if not s.is_argument}
    return given | _placed(arguments, [*others, *behind], command)


def close_to(word: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that was most likely meant."""
    found = difflib.get_close_matches(word, list(known), 1)
    return found[0] if found else None


def in_words(choices: Sequence[str], last: str = "or") -> str:
    """``a, b or c``."""
    *head, tail = choices
    return f"{', '.join(head)} {last} {tail}" if head else tail


def _prepared(words: Sequence[str], options: Mapping[str, Spec]) -> tuple[list[str], list[str]]:
    """What argparse reads, and what stands behind ``--``.

    argparse takes ``-1,2`` behind ``--mean`` for an option, and its releases differ over several
    short options in one word (``-qx``, ``-qo=FILE``): so a value is tied to its option by ``=``, and
    each flag becomes a word of its own.
    """
    queue, prepared = deque(words), list[str]()
    while queue and (word := queue.popleft()) != "--":
        spec, short = options.get(word), options.get(word[:2])
        if short and short.is_flag and word[2:3] not in ("", "-", "="):
            queue.appendleft(f"-{word[2:]}")
            word = word[:2]
        elif spec and not spec.is_flag and queue and queue[0] not in options:
            word = f"{word}={queue.popleft()}"
        prepared.append(word)
    return prepared, list(queue)


def _read(words: Sequence[str], options: Mapping[str, Spec]) -> tuple[dict[str, Any], list[str]]:
    """What the options were given, as text, and the words that are none of them."""
    # Imported here: --help needs no more than the declarations.
    from argparse import SUPPRESS, ArgumentError, ArgumentParser

    parser = ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False, argument_default=SUPPRESS
    )
    # Each name is added by itself: so an error says which of them was typed.
    for name, spec in options.items():
        if spec.is_flag:
            yes = "store_false" if name == spec.negative else "store_true"
            parser.add_argument(name, dest=spec.key, action=yes)
        else:
            # Not nargs=1: that of Python 3.14 takes an option for a value.
            parser.add_argument(name, dest=spec.key, action="append", nargs="+")
    try:
        found, others = parser.parse_known_args(words)
    except ArgumentError as error:
        name = str(error.argument_name)
        raise _wrong_use(name, options[name]) from None
    return vars(found), others


def _wrong_use(name: str, spec: Spec) -> UsageError:
    if spec.is_flag:
        return UsageError(f"{name} takes no value; write {name} alone, or leave it out")
    return UsageError(f"{name} needs a value: {name} {spec.metavar}")


def _values(spec: Spec, found: Mapping[str, Any], command: str) -> Any:
    """What an option is worth: the last that it was given, or all."""
    if spec.key not in found:
        if spec.required:
            raise UsageError(f"bnfold {command} needs {spec.called} {spec.metavar}")
        return spec.default
    if spec.is_flag:
        return found[spec.key]
    # Up to Python 3.12 argparse drops "--" where it is a value.
    values = [_converted(spec, text) for (text,) in (given or ["--"] for given in found[spec.key])]
    return values if spec.many else values[-1]


def _placed(arguments: Sequence[Spec], loose: list[str], command: str) -> dict[str, Any]:
    """The value of each argument: argparse places none behind an option once the first are placed."""
    placed: dict[str, Any] = {}
    for spec in arguments:
        if not loose and spec.required:
            usage = " ".join(s.metavar for s in arguments)
            raise UsageError(f"{spec.metavar} is missing: bnfold {command} {usage}")
        taken, loose = (loose, []) if spec.many else (loose[:1], loose[1:])
        values = [_converted(spec, word) for word in taken]
        placed[spec.key] = (values if spec.many else values[0]) if values else spec.default
    if loose:
        wanted = in_words([s.metavar for s in arguments], "and") or "no arguments"
        raise UsageError(f"bnfold {command} takes {wanted}; {loose[0]} is one too many")
    return placed


def _unknown(word: str, options: Iterable[str], command: str) -> UsageError:
    name = word.partition("=")[0] if word.startswith("--") else word[:2]
    close = close_to(name, [n for n in options if n.startswith("--")]) if len(name) > 2 else None
    hint = f"did you mean {close}?" if close else f"bnfold {command} --help lists all"
    return UsageError(f"bnfold {command} has no option {name}; {hint}")


def _converted(spec: Spec, text: str) -> Any:
    if spec.choices:
        return _choice(spec, text)
    if spec.kind in (int, float):
        return _number(spec, text, spec.kind)
    return spec.kind(text)


def _choice(spec: Spec, text: str) -> Enum:
    if text not in spec.choices:
        close = close_to(text, spec.choices)
        hint = f" (did you mean {close}?)" if close else ""
        raise UsageError(f"{spec.called} is {in_words(spec.choices)}, not {text}{hint}")
    chosen: Enum = spec.kind(text)
    return chosen


def _number(spec: Spec, text: str, kind: Callable[[str], float]) -> float:
    assert isinstance(spec.declared, Option)
    least = spec.declared.min
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (least is not None and value < least):
        what = "a whole number" if kind is int else "a number"
        least_words = "" if least is None else f" from {least:g} upwards"
        raise UsageError(f"{spec.called} is {what}{least_words}, not {text}")
    return value
