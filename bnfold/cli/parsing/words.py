"""Reading the words of a command line; a mistake is one sentence with what to do."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

from bnfold.cli.parsing.declare import Argument, Option, Spec
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
    return _Reader(specs, command).read(list(words))


def close_to(word: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that was most likely meant."""
    found = difflib.get_close_matches(word, list(known), 1)
    return found[0] if found else None


def in_words(choices: Sequence[str], last: str = "or") -> str:
    """``a, b or c``."""
    *head, tail = choices
    return f"{', '.join(head)} {last} {tail}" if head else tail


class _Reader:
    def __init__(self, specs: Sequence[Spec], command: str) -> None:
        self.command = command
        self.arguments = [s for s in specs if s.is_argument]
        self.options = [s for s in specs if not s.is_argument]
        self.by_name = {name: s for s in self.options for name in s.names}
        self.negative = {s.negative: s for s in self.options if s.negative}
        self.found: dict[str, Any] = {}
        self.loose: list[str] = []

    def read(self, words: list[str]) -> dict[str, Any]:
        while words:
            word = words.pop(0)
            if word == "--":
                self.loose += words
                break
            if word.startswith("--"):
                self._long(word, words)
            elif word.startswith("-") and word != "-":
                self._short(word[1:], words)
            else:
                self.loose.append(word)
        self._place_arguments()
        for spec in self.options:
            if spec.required and spec.key not in self.found:
                raise UsageError(f"bnfold {self.command} needs {spec.called} {spec.metavar}")
        every = (*self.arguments, *self.options)
        return {s.key: self.found.get(s.key, s.default) for s in every}

    def _long(self, word: str, words: list[str]) -> None:
        name, equals, value = word.partition("=")
        if name == "--help":
            raise HelpWanted
        spec = self.by_name.get(name) or self.negative.get(name)
        if spec is None:
            raise self._unknown(name)
        if spec.is_flag:
            if equals:
                raise UsageError(f"{name} takes no value; write {name} alone, or leave it out")
            self.found[spec.key] = name in self.by_name
            return
        self._take(spec, value if equals else self._next(spec, name, words))

    def _short(self, letters: str, words: list[str]) -> None:
        """``-v``, ``-o FILE``, ``-oFILE``, ``-vo FILE``."""
        while letters:
            name, letters = f"-{letters[0]}", letters[1:]
            if name == "-h":
                raise HelpWanted
            spec = self.by_name.get(name)
            if spec is None:
                raise self._unknown(name)
            if spec.is_flag:
                self.found[spec.key] = True
                continue
            self._take(spec, letters.removeprefix("=") or self._next(spec, name, words))
            return

    def _next(self, spec: Spec, name: str, words: list[str]) -> str:
        """The word behind an option, which is no other option."""
        if not words or words[0] in self.by_name or words[0] in self.negative:
            raise UsageError(f"{name} needs a value: {name} {spec.metavar}")
        return words.pop(0)

    def _take(self, spec: Spec, text: str) -> None:
        value = _converted(spec, text)
        if spec.many:
            self.found.setdefault(spec.key, []).append(value)
        else:
            self.found[spec.key] = value

    def _place_arguments(self) -> None:
        loose = list(self.loose)
        for spec in self.arguments:
            if not loose:
                if spec.required:
                    raise self._missing(spec)
                continue
            taken, loose = (loose, []) if spec.many else (loose[:1], loose[1:])
            values = [_converted(spec, word) for word in taken]
            self.found[spec.key] = values if spec.many else values[0]
        if loose:
            wanted = in_words([s.metavar for s in self.arguments], "and") or "no arguments"
            raise UsageError(f"bnfold {self.command} takes {wanted}; {loose[0]} is one too many")

    def _missing(self, spec: Spec) -> UsageError:
        usage = " ".join(s.metavar for s in self.arguments)
        return UsageError(f"{spec.metavar} is missing: bnfold {self.command} {usage}")

    def _unknown(self, name: str) -> UsageError:
        known = [*self.by_name, *self.negative]
        close = close_to(name, [n for n in known if n.startswith("--")]) if len(name) > 2 else None
        hint = f"did you mean {close}?" if close else f"bnfold {self.command} --help lists all"
        return UsageError(f"bnfold {self.command} has no option {name}; {hint}")


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


__all__ = ["Argument", "HelpWanted", "close_to", "in_words", "parse"]
