"""``bnfold schema``."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated

from bnfold.cli.parsing import Argument


class Which(str, Enum):
    """A command that prints JSON."""

    INSPECT = "inspect"
    FOLD = "fold"
    VERIFY = "verify"
    RECALIBRATE = "recalibrate"


def schema(
    command: Annotated[Which, Argument("COMMAND", "inspect, fold, verify or recalibrate.")],
) -> int:
    """Print the JSON Schema of what COMMAND prints with `--format json`."""
    from bnfold.reports.schemas import schema_text

    sys.stdout.write(schema_text(command.value))
    sys.stdout.flush()
    return 0
