"""What a process costs: CPU seconds and peak memory of children, run in turn, medians reported.

CPU time is that of the child and its threads, user and system; wall time says little on a machine
that others use as well. Rounds are interleaved, so that a slow minute hits every row.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Cost:
    """CPU seconds, and the most memory that was resident, in bytes."""

    cpu: float
    peak: int

    @property
    def megabytes(self) -> float:
        return self.peak / 1e6


class ChildFailed(Exception):
    """A row that cannot be measured: the tool is absent, or refuses the model."""


def run_once(command: Sequence[str], *, one_thread: bool = True) -> Cost:
    """Runs ``command`` and says what it cost.

    A small process in between starts it: the system counts the memory of the one that starts as the
    child's own peak.

    Raises:
        ChildFailed: with its last line, where it ends with another code than 0.
    """
    environment = {**os.environ, **(_ONE_THREAD if one_thread else {})}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users have their modules compiled
    starter = [sys.executable, "-S", __file__, *command]
    done = subprocess.run(starter, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ChildFailed(lines[-1] if lines else f"exit code {done.returncode}")
    cpu, peak = done.stdout.split()
    return Cost(float(cpu), int(peak))


def compare(rows: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Cost | str]:
    """The median cost of each command, the rounds interleaved; what is wrong where one fails."""
    found: dict[str, list[Cost]] = {name: [] for name in rows}
    failed: dict[str, Cost | str] = {}
    for _ in range(rounds):
        for name, command in rows.items():
            if name in failed:
                continue
            try:
                found[name].append(run_once(command))
            except ChildFailed as error:
                failed[name] = str(error)
    medians: dict[str, Cost | str] = {
        name: Cost(statistics.median(c.cpu for c in costs), max(c.peak for c in costs))
        for name, costs in found.items()
        if name not in failed
    }
    return {name: (medians | failed)[name] for name in rows}


def python(code: str, *arguments: str | Path) -> list[str]:
    """A command that runs ``code`` with ``sys.argv[1:]`` set."""
    return [sys.executable, "-c", code, *map(str, arguments)]


def bnfold(*arguments: str | Path) -> list[str]:
    """A command of bnfold."""
    return [sys.executable, "-m", "bnfold", *map(str, arguments)]


def _start() -> None:
    """The process in between: prints the cost of the command that it is given."""
    child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
    sys.exit(child.returncode)


if __name__ == "__main__":
    _start()
