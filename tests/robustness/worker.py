"""Runs the command line in a process of its own, which is ended when it takes too long."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

LIMIT = 60.0  # seconds


class Worker:
    """One process at a time; a new one where the last was ended or died."""

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there,), daemon=True)
        self._process.start()
        there.close()
        self._here.poll(120)
        self._here.recv()

    def __call__(self, arguments: Sequence[str], folder: Path) -> tuple[int | str, str, str]:
        """``(code, stdout, stderr)``; the code is "hang" or "died" where there is none."""
        self._here.send((list(arguments), str(folder)))
        try:
            if self._here.poll(self._limit):
                code, out, err = self._here.recv()
                return code, out, err
            problem = "hang"
        except EOFError:
            problem = "died"
        self.close()
        self._start()
        return problem, "", ""

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(there: Connection) -> None:
    from bnfold import cli

    os.environ.pop("BNFOLD_DEBUG", None)
    os.environ["COLUMNS"] = "100"
    _quiet_descriptors()
    there.send("ready")
    while True:
        arguments, folder = there.recv()
        os.chdir(folder)
        sys.argv = ["bnfold", *arguments]
        out, err = io.StringIO(), io.StringIO()
        code: object = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as stop:
                code = stop.code or 0
            except BaseException as error:
                code = f"escaped: {type(error).__name__}: {error}"
        there.send((code, out.getvalue(), err.getvalue()))


def _quiet_descriptors() -> None:
    """What native code prints goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
