"""``bnfold completion``."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated

from bnfold.cli.parsing import Argument


class Shell(str, Enum):
    """A shell that completes."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[
        Shell,
        Argument(
            "SHELL", 'bash, zsh or fish: eval "$(bnfold completion bash)" in its start-up file.'
        ),
    ],
) -> int:
    """Print a script that completes commands and options in SHELL."""
    from bnfold.cli import COMMANDS, command_of
    from bnfold.cli.parsing import complete

    script = getattr(complete, shell.value)
    sys.stdout.write(script({name: command_of(name) for name in COMMANDS}, COMMANDS))
    sys.stdout.flush()
    return 0
