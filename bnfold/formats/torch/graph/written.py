"""A program as the file holds it that was just written."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.export import ExportedProgram

from bnfold.errors import ModelError
from bnfold.formats.torch.file.quiet import first_line, quietly
from bnfold.formats.torch.graph.in_place import functional


def read_back(written: Path, notes: dict[str, str]) -> ExportedProgram:
    """The program; what the file says under the keys of ``notes`` is put there.

    Raises:
        ModelError: where torch cannot read what it wrote.
    """
    try:
        loaded = quietly(lambda: torch.export.load(written, extra_files=notes))
    except Exception as error:  # the loader raises whatever a damaged archive makes it raise
        raise ModelError(
            f"torch cannot load the program that it wrote ({first_line(error)}); "
            "write a state dict (.safetensors) instead"
        ) from None
    return functional(loaded)
