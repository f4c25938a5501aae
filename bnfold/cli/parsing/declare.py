"""Declarations: ``Annotated[Path | None, Option("--output", "-o", help=…)]`` on a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

FLAG = object()
"""What an option takes that takes no value."""


class Option:
    """One option.

    Names default to the parameter's own; ``--a/--no-a`` is a pair that says yes and no. ``default``
    is how the default is called in the help where its value says nothing.
    """

    def __init__(
        self,
        *names: str,
        help: str,
        metavar: str | None = None,
        panel: str = "Options",
        default: str | None = None,
        min: float | None = None,
    ) -> None:
        self.names, self.help, self.metavar = names, help, metavar
        self.panel, self.default, self.min = panel, default, min


class Argument:
    """One argument by position."""

    def __init__(self, metavar: str, help: str) -> None:
        self.metavar, self.help = metavar, help


@dataclass(frozen=True)
class Spec:
    """What a parameter of a command takes: its declaration beside its type."""

    key: str
    declared: Option | Argument
    kind: Any  # FLAG, int, float, str, Path, or an Enum
    many: bool
    required: bool
    default: Any

    @property
    def is_argument(self) -> bool:
        return isinstance(self.declared, Argument)

    @property
    def is_flag(self) -> bool:
        return self.kind is FLAG

    @property
    def help(self) -> str:
        return self.declared.help

    @property
    def choices(self) -> tuple[str, ...]:
        is_enum = isinstance(self.kind, type) and issubclass(self.kind, Enum)
        return tuple(each.value for each in self.kind) if is_enum else ()

    @property
    def names(self) -> tuple[str, ...]:
        """All that say yes, the long one first; none for an argument."""
        if isinstance(self.declared, Argument):
            return ()
        given = self.declared.names or ("--" + self.key.replace("_", "-"),)
        return tuple(name.split("/")[0] for name in given)

    @property
    def negative(self) -> str | None:
        """The one that says no."""
        given = getattr(self.declared, "names", ())
        return next((name.split("/")[1] for name in given if "/" in name), None)

    @property
    def metavar(self) -> str:
        if self.declared.metavar:
            return self.declared.metavar
        return "|".join(self.choices) or {int: "NUMBER", float: "NUMBER", Path: "FILE"}.get(
            self.kind, "TEXT"
        )

    @property
    def called(self) -> str:
        """How errors name it."""
        return self.names[0] if self.names else self.metavar


HELP = Spec("help", Option("--help", "-h", help="Show this page."), FLAG, False, False, False)
"""What every command takes besides."""


def spec_of(key: str, annotation: Any, default: Any, missing: object) -> Spec:
    """The spec of a parameter.

    Args:
        key: its name.
        annotation: ``Annotated[type, Option or Argument]``.
        default: of the parameter.
        missing: what ``default`` is where there is none.

    Raises:
        TypeError: where it is not declared so: a defect.
    """
    kind, *notes = get_args(annotation)
    declared = next((n for n in notes if isinstance(n, Option | Argument)), None)
    if declared is None:
        raise TypeError(f"{key} declares no option")
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    many = get_origin(kind) is list
    if many:
        (kind,) = get_args(kind)
    required = default is missing
    return Spec(
        key, declared, FLAG if kind is bool else kind, many, required, None if required else default
    )
