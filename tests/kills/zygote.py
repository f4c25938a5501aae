"""Runs the command line in children of one process that has imported everything, and kills them.

Reads orders as lines of JSON from stdin and answers each with a line: how the child ended, and how
many times it was about to change a file. A child dies before a change of a given number, or after
so many seconds, by a given signal.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from typing import Any

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def changes_files(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event of the interpreter announces a change on the disk."""
    if event == "open":
        path, _, flags = arguments
        return isinstance(path, str | bytes | os.PathLike) and bool(flags & _WRITING)
    return event in CHANGES


def child(order: dict[str, Any], count: int) -> None:
    """The command, until it is killed; ``count`` is where its number of changes is written to."""
    os.chdir(order["folder"])
    os.environ["TMPDIR"] = tempfile.tempdir = order["temporary"]
    nowhere = os.open(os.devnull, os.O_RDWR)
    errors = os.open(order["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(nowhere, 1)
    os.dup2(errors, 2)
    done = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done
        if changes_files(event, arguments):
            done += 1
            os.pwrite(count, done.to_bytes(4, "little"), 0)
            if done == order.get("change"):
                os.kill(os.getpid(), order.get("signal", signal.SIGKILL))

    sys.argv = ["bnfold", *order["arguments"]]
    from bnfold import startup
    from bnfold.cli import main

    startup.take_signals()
    sys.addaudithook(watch)
    main()


def answer(order: dict[str, Any]) -> dict[str, int]:
    with tempfile.TemporaryFile() as count:  # in the zygote's own temporary folder
        process = os.fork()
        if not process:
            code = 70
            try:
                child(order, count.fileno())
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 70
            finally:
                import atexit

                atexit._run_exitfuncs()
                os._exit(code)
        if "seconds" in order:
            time.sleep(order["seconds"])
            os.kill(process, order.get("signal", signal.SIGKILL))
        _, status = os.waitpid(process, 0)
        done = int.from_bytes(os.pread(count.fileno(), 4, 0), "little")
    return {"code": os.waitstatus_to_exitcode(status), "changes": done}


def main() -> None:
    import onnxruntime  # noqa: F401

    import bnfold.cli
    import bnfold.jobs.recalibrate

    if sys.argv[1:] == ["torch"]:
        import bnfold.formats.torch.format  # noqa: F401
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
