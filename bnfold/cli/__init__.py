"""The command line: parse, call a job, print its report, exit with a code.

Exit codes: 0 done; 1 findings at or above --fail-on, or a verification that failed; 2 wrong usage,
unreadable or unsupported input; 130 interrupted (143 by SIGTERM, 129 by SIGHUP).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from bnfold.cli import fold, inspect, recalibrate, rule, verify
from bnfold.cli.streams import discard_stdout, prepare_streams, say
from bnfold.errors import BnfoldError
from bnfold.startup import Interrupted

app = typer.Typer(
    name="bnfold",
    help="Audit, recalibrate and fold the BatchNorm layers of a trained network, "
    "and prove that nothing changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _said(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with a word about Ctrl-C and its like, which typer would end without one."""

    @wraps(command)
    def call(**given: Any) -> None:
        try:
            command(**given)
        except KeyboardInterrupt as error:
            stop = error if isinstance(error, Interrupted) else Interrupted()
            print(stop.sentence, file=sys.stderr)
            raise typer.Exit(stop.exit_code) from None

    return call


for _command in (
    inspect.inspect,
    fold.fold,
    verify.verify,
    recalibrate.recalibrate,
    rule.rule,
):
    app.command(_command.__name__)(_said(_command))


def _version(value: bool) -> None:
    if value:
        from bnfold.version import __version__

        typer.echo(f"bnfold {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Runs the command line; an error becomes one sentence and an exit code, never a traceback."""
    debug = os.environ.get("BNFOLD_DEBUG") == "1"
    prepare_streams()
    try:
        app()
    except BnfoldError as error:
        if debug:
            raise
        sys.exit(_complain(str(error)))
    except MemoryError as error:
        if debug:
            raise
        sys.exit(_complain(f"there is not enough memory for this ({error})"))
    except BrokenPipeError:  # the reader of stdout has gone, as with `--help | head`
        discard_stdout()
        sys.exit(0)
    except OSError as error:
        if debug:
            raise
        discard_stdout()
        sys.exit(_complain(f"the system refused: {error}"))
    except Exception as error:
        if debug:
            raise
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        sys.exit(_complain(f"an unexpected error ({what}); BNFOLD_DEBUG=1 shows where"))


def _complain(sentence: str) -> int:
    say(sentence)
    return 2
