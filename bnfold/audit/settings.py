"""Settings of the audit, from ``[tool.bnfold]`` in pyproject.toml or from bnfold.toml."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from bnfold.audit.finding import Finding, Severity
from bnfold.audit.selection import Accepted, Selection, parse_codes
from bnfold.audit.thresholds import Thresholds, setting_names
from bnfold.errors import UsageError
from bnfold.files import missing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OWN_FILE, SHARED_FILE = "bnfold.toml", "pyproject.toml"


class FailOn(str, Enum):
    """From which severity on findings make the exit code 1."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"

    def concerns(self, findings: Iterable[Finding]) -> bool:
        """Whether some finding is as bad as that."""
        if self is FailOn.NEVER:
            return False
        limit = Severity(self.value).rank
        return any(finding.severity.rank <= limit for finding in findings)


@dataclass(frozen=True)
class Settings:
    """What a settings file says; ``source`` is the file, None where there is none."""

    selection: Selection = field(default_factory=Selection)
    fail_on: FailOn = FailOn.ERROR
    source: Path | None = None

    def overridden(
        self,
        select: Sequence[str] | None = None,
        ignore: Sequence[str] | None = None,
        fail_on: FailOn | None = None,
    ) -> Settings:
        """These settings with what the command line says in their place.

        Raises:
            UsageError: where a code is unknown.
        """
        selection = self.selection
        if select:
            words = parse_codes(select, "--select")
            selection = replace(selection, select=words, select_from="--select")
        if ignore:
            words = parse_codes(ignore, "--ignore")
            selection = replace(selection, ignore=words, ignore_from="--ignore")
        return replace(self, selection=selection, fail_on=fail_on or self.fail_on)

    def to_json(self) -> dict[str, Any]:
        """What is in use, and which file it is from."""
        selection = self.selection
        return {
            "file": None if self.source is None else str(self.source),
            "select": list(selection.select),
            "ignore": list(selection.ignore),
            "accept": [each.to_json() for each in selection.accepted],
            "fail_on": self.fail_on.value,
            "thresholds": {
                name.replace("_", "-"): value
                for name, value in asdict(selection.thresholds).items()
            },
        }


def load_settings(start: Path | None = None, *, file: Path | None = None) -> Settings:
    """The settings of ``file``, or of the nearest one, from ``start`` (the working directory) upwards.

    In one folder bnfold.toml comes before pyproject.toml; a pyproject.toml without
    ``[tool.bnfold]`` is passed over.

    Raises:
        UsageError: where the file is no TOML, or has a key or a value that is not understood.
    """
    if file is not None:
        return _of_file(file)
    folder = (start or Path.cwd()).resolve()
    for place in (folder, *folder.parents):
        for name in (OWN_FILE, SHARED_FILE):
            path = place / name
            table = _table(path) if path.is_file() else None
            if table is not None:
                return _parsed(table, path)
    return Settings()


def _of_file(path: Path) -> Settings:
    if not path.is_file():
        raise UsageError(missing(path, "check --config"))
    table = _table(path)
    if table is None:
        raise UsageError(f"{path} has no [tool.bnfold]; add it, or name another with --config")
    return _parsed(table, path)


def _table(path: Path) -> Mapping[str, Any] | None:
    try:
        data: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if path.name != SHARED_FILE:
        return data
    table = data.get("tool", {}).get("bnfold")
    return table if isinstance(table, Mapping) else None


def _parsed(table: Mapping[str, Any], path: Path) -> Settings:
    _refuse_unknown(table, ("select", "ignore", "accept", "fail-on", "thresholds"), path)
    selection = Selection(
        parse_codes(_words(table, "select", path), f"{path}, select"),
        parse_codes(_words(table, "ignore", path), f"{path}, ignore"),
        _thresholds(table.get("thresholds", {}), path),
        _accepted(table.get("accept", []), path),
        f"select in {path}",
        f"ignore in {path}",
    )
    fail_on = table.get("fail-on", FailOn.ERROR.value)
    choices = [each.value for each in FailOn]
    if fail_on not in choices:
        raise UsageError(f"{path}: fail-on is {fail_on!r}; it can be {', '.join(choices)}")
    return Settings(selection, FailOn(fail_on), path)


def _words(table: Mapping[str, Any], key: str, path: Path) -> list[str]:
    value = table.get(key, [])
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
        raise UsageError(f'{path}: {key} has to be a list of codes, as ["BN1", "BN203"]')
    return words


def _accepted(entries: Any, path: Path) -> tuple[Accepted, ...]:
    """``[[accept]]`` tables: a code, a glob on layers, the reason, which is not optional, and a day."""
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise UsageError(f"{path}: accept has to be a list of tables: [[tool.bnfold.accept]]")
    found = []
    for entry in entries:
        _refuse_unknown(entry, (*_ACCEPT, "until"), path)
        texts = [entry.get(key, default) for key, default in _ACCEPT.items()]
        if not all(isinstance(text, str) for text in texts) or not texts[0] or not texts[2]:
            raise UsageError(
                f"{path}: each accept has a code and a reason (and a layer, a glob), all of them text"
            )
        code, layer, reason = texts
        where, until = f"accept in {path}", _date(entry, path)
        prefixes = parse_codes([code], f"{path}, accept")
        found += [Accepted(prefix, layer, reason, where, until) for prefix in prefixes]
    return tuple(found)


def _date(entry: Mapping[str, Any], path: Path) -> date | None:
    until = entry.get("until")
    if until is None or (isinstance(until, date) and not isinstance(until, datetime)):
        return until
    raise UsageError(f"{path}: until is a date without quotes, as 2027-01-31, not {until!r}")


_ACCEPT = {"code": "", "layer": "*", "reason": ""}


def _thresholds(table: Any, path: Path) -> Thresholds:
    if not isinstance(table, Mapping):
        raise UsageError(f"{path}: thresholds has to be a table")
    _refuse_unknown(table, setting_names(), path)
    for key, value in table.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise UsageError(f"{path}: {key} is {value!r}; it has to be a number of at least 0")
    return Thresholds(**{key.replace("-", "_"): float(value) for key, value in table.items()})


def _refuse_unknown(table: Mapping[str, Any], known: Sequence[str], path: Path) -> None:
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise UsageError(f"{path}: the key {key} is unknown ({hint})")
