"""A command: a function whose parameters declare its arguments and options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from bnfold.cli.parsing.declare import Spec, spec_of
from bnfold.cli.parsing.words import parse


@dataclass(frozen=True)
class Command:
    """One command, as its function declares it.

    A parameter may be a dataclass: then its fields are options, and the function gets one of it.
    So commands that share options share their declaration.
    """

    name: str
    function: Callable[..., int]
    specs: tuple[Spec, ...]
    groups: Mapping[str, tuple[Any, tuple[str, ...]]]

    @classmethod
    def of(cls, function: Callable[..., int]) -> Command:
        """Reads the signature of ``function``."""
        specs: list[Spec] = []
        groups: dict[str, tuple[Any, tuple[str, ...]]] = {}
        # Not get_type_hints: up to Python 3.10 it hides what has None for a default in an Optional.
        for key, parameter in inspect.signature(function, eval_str=True).parameters.items():
            kind = parameter.annotation
            if is_dataclass(kind):
                own = _fields(kind)
                specs += own
                groups[key] = kind, tuple(spec.key for spec in own)
            else:
                specs.append(spec_of(key, kind, parameter.default, inspect.Parameter.empty))
        return cls(function.__name__, function, tuple(specs), groups)

    @property
    def summary(self) -> str:
        """The first sentence of its docstring."""
        return " ".join((self.function.__doc__ or "").split("\n\n")[0].split())

    def run(self, words: Sequence[str]) -> int:
        """Calls it with what ``words`` say, and returns its exit code.

        Raises:
            UsageError: where they are not understood.
            HelpWanted: where help is asked for.
        """
        given = parse(words, self.specs, self.name)
        for key, (group, names) in self.groups.items():
            given[key] = group(**{name: given.pop(name) for name in names})
        return self.function(**given)


def _fields(group: Any) -> list[Spec]:
    hints = get_type_hints(group, include_extras=True)
    return [spec_of(f.name, hints[f.name], f.default, MISSING) for f in fields(group)]
