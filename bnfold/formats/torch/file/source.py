"""What kind of PyTorch file this is, by its content: suffixes lie."""

from __future__ import annotations

import zipfile
from enum import Enum
from pathlib import Path

from bnfold.errors import ModelError
from bnfold.files import SourceFile, check_regular
from bnfold.formats.torch.file.archive import names_in
from bnfold.formats.torch.file.state import is_safetensors


class Source(Enum):
    PROGRAM = "an exported program"
    TORCHSCRIPT = "a TorchScript archive"
    CHECKPOINT = "a checkpoint"
    SAFETENSORS = "a safetensors file"


def source_file(path: Path, option: str) -> SourceFile:
    """A file that is read; ``option`` is how the user named it.

    Raises:
        ModelError: where there is none.
    """
    try:
        return SourceFile(path)
    except OSError as error:
        raise ModelError(
            f"{path} does not exist or cannot be read ({error.strerror}); check {option}"
        ) from None


def source_of(path: Path) -> Source:
    """The kind of a file.

    Raises:
        ModelError: where it is missing, damaged or none of them.
    """
    try:
        check_regular(path)
        if not path.is_file():
            raise ModelError(f"{path} does not exist or is a folder; check the path")
        if is_safetensors(path):
            return Source.SAFETENSORS
        if zipfile.is_zipfile(path):
            return _of_archive(path)
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    if head[:1] == b"\x80":
        return Source.CHECKPOINT
    if head == b"PK":
        raise ModelError(f"{path} is a truncated archive; copy or download it again")
    raise ModelError(
        f"{path} is no PyTorch file that bnfold reads (.pt2, TorchScript, checkpoint, safetensors)"
    )


def _of_archive(path: Path) -> Source:
    names = names_in(path)
    whole = set(names)
    if "archive_format" in whole or any(n.startswith(("models/", "serialized_")) for n in names):
        return Source.PROGRAM
    if "constants.pkl" in whole or any(name.startswith("code/") for name in names):
        return Source.TORCHSCRIPT
    if "data.pkl" in whole:
        return Source.CHECKPOINT
    raise ModelError(f"{path} is a zip archive without a PyTorch model in it")
