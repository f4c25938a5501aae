"""The command line: parse, call a job, print its report, exit with a code.

Exit codes: 0 done; 1 findings at or above --fail-on, or a verification that failed; 2 wrong usage,
unreadable or unsupported input; 130 interrupted (143 by SIGTERM, 129 by SIGHUP). With several models
it is the worst of all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from bnfold.cli.streams import discard_stdout, prepare_streams, say
from bnfold.errors import BnfoldError, UsageError
from bnfold.startup import Interrupted

if TYPE_CHECKING:
    from bnfold.cli.parsing import Command

SENTENCE = (
    "Audit, recalibrate and fold the BatchNorm layers of a trained network, and prove that nothing "
    "changed."
)
# A command's module is imported when it is called: `bnfold.cli.NAME`, a function of the same name.
COMMANDS = {
    "inspect": "Report every BatchNorm: its statistics, what is wrong, what can become of it.",
    "fold": "Fold every BatchNorm that can go exactly, prove it, and write the result.",
    "verify": "Compare two models on the same inputs.",
    "recalibrate": "Measure the statistics again on a data sample and write them.",
    "rule": "Explain a rule of the audit, or list all.",
    "schema": "Print the JSON Schema of a command's `--format json`.",
    "completion": "Print a script that completes options in a shell.",
}


def command_of(name: str) -> Command:
    """The command of this name."""
    from bnfold.cli.parsing import Command

    return Command.of(getattr(import_module(f"bnfold.cli.{name}"), name))


def main() -> None:
    """Runs the command line; an error becomes one sentence and an exit code, never a traceback."""
    prepare_streams()
    sys.exit(_guarded(sys.argv[1:]))


def _guarded(words: Sequence[str]) -> int:
    debug = os.environ.get("BNFOLD_DEBUG") == "1"
    try:
        return _run(words)
    except KeyboardInterrupt as error:
        stop = error if isinstance(error, Interrupted) else Interrupted()
        print(stop.sentence, file=sys.stderr)
        return stop.exit_code
    except BrokenPipeError:  # the reader of stdout has gone, as with `--help | head`
        discard_stdout()
        return 0
    except Exception as error:
        if debug:
            raise
        return _complain(error)


def _complain(error: Exception) -> int:
    if isinstance(error, BnfoldError):
        say(str(error))
    elif isinstance(error, MemoryError):
        say(f"there is not enough memory for this ({error})")
    elif isinstance(error, OSError):
        discard_stdout()
        say(f"the system refused: {error}")
    else:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        say(f"an unexpected error ({what}); BNFOLD_DEBUG=1 shows where")
    return 2


def _run(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        from bnfold.cli.parsing.help import overview

        sys.stdout.write(overview(SENTENCE, COMMANDS))
        sys.stdout.flush()
        return 0 if words else 2
    name, *rest = words
    if name == "--version":
        from bnfold.version import __version__

        print(f"bnfold {__version__}", flush=True)
        return 0
    if name not in COMMANDS:
        raise _unknown(name)
    return _called(name, rest)


def _called(name: str, rest: Sequence[str]) -> int:
    from bnfold.cli.parsing.words import HelpWanted

    command = command_of(name)
    try:
        return command.run(rest)
    except HelpWanted:
        from bnfold.cli.parsing.help import page_of

        sys.stdout.write(page_of(command))
        sys.stdout.flush()
        return 0


def _unknown(name: str) -> UsageError:
    from bnfold.cli.parsing.words import close_to, in_words

    if name.startswith("-"):
        return UsageError(f"bnfold has no option {name}; options stand behind the command")
    close = close_to(name, COMMANDS)
    hint = f"did you mean {close}?" if close else f"there are {in_words(list(COMMANDS), 'and')}"
    return UsageError(f"bnfold has no command {name}; {hint}")
