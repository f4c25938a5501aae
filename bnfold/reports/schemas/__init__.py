"""JSON Schemas of what the commands print: ``NAME.json`` here."""

from __future__ import annotations

from importlib import resources


def schema_text(command: str) -> str:
    """The schema of a command's documents."""
    return resources.files(__package__).joinpath(f"{command}.json").read_text(encoding="utf-8")
