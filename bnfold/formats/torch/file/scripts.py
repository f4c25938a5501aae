"""TorchScript archives, tried in another process: a damaged one ends the process that opens it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bnfold.errors import ModelError

_LOAD = "import sys, torch; torch.jit.load(sys.argv[1], map_location='cpu')"
_PATIENCE = 600.0


def check_loads(path: Path) -> None:
    """Loads an archive in a process of its own.

    Python's own errors are left to the caller, who meets them again and says more.

    Raises:
        ModelError: where that process dies of it, or does not come to an end.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _LOAD, str(path.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"{path} takes more than ten minutes to load; export it again") from None
    if done.returncode not in (0, 1):
        raise ModelError(
            f"{path} is a damaged TorchScript archive (torch crashes on it); export it again"
        )
