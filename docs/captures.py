"""What the commands print in a terminal of 80 and of 140 columns, and into a pipe.

``python -m docs.captures FOLDER`` writes one file for each, to be looked at line by line. A terminal
is a real one (a pseudo-terminal), so that progress bars, colours and wrapping are those that a user
sees; only the codes of colours and what a progress bar has erased are taken out.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (
    "inspect residual.onnx",
    "inspect residual_stale_statistics.onnx --data digits_calibration.npz",
    "inspect residual_training_mode.onnx",
    "inspect residual_stale_statistics.onnx --against residual.onnx",
    "fold residual.onnx -o folded.onnx",
    "fold residual_training_mode.onnx -o copy.onnx",
    "fold preact.onnx --dry-run -v",
    "recalibrate residual_stale_statistics.onnx --data digits_calibration.npz -o new.onnx",
    "verify residual.onnx folded.onnx",
    "verify residual.onnx new.onnx",
    "rule BN204",
    "rule BN4",
    "fold --help",
    "fold residul.onnx -o folded.onnx",
    "inspect residual.onnx --faill-on error",
    "fold residual.onnx -o folded.pt2",
)
WIDTHS = (80, 140)
# Colours, returns to the start of the line, and a cursor that is hidden and shown again.
_UNSEEN = re.compile(r"\x1b\[[0-9;]*m|\r|\x1b\[\?25[lh]")
# A progress bar erases its line, at the end that above it.
_ERASED = re.compile(r"(?:[^\n]*\n\x1b\[1A)?[^\n]*\x1b\[2K")


def captured(arguments: str, place: Path, columns: int | None) -> str:
    """What a command prints on stdout and stderr, in a terminal of ``columns`` or into a pipe."""
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "bnfold", *arguments.split()]
    if columns is None:
        done = subprocess.run(
            command,
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.stdout.decode()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with subprocess.Popen(
        command, cwd=place, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        text = _all_of(ours)
    os.close(ours)
    return _without_codes(text)


def _all_of(descriptor: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()


def _without_codes(text: str) -> str:
    return _ERASED.sub("", _UNSEEN.sub("", text))


def main() -> None:
    """Writes the captures into a folder."""
    target = Path(sys.argv[1])
    for columns in (*WIDTHS, None):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            for sample in (ROOT / "sample_models").glob("*.[on]*"):
                shutil.copy(sample, place)
            name = "pipe" if columns is None else str(columns)
            with (target / f"{name}.txt").open("w", encoding="utf-8") as file:
                for arguments in COMMANDS:
                    file.write(f"$ bnfold {arguments}\n{captured(arguments, place, columns)}\n")


if __name__ == "__main__":
    main()
