"""What kind of file this is, by its first bytes: suffixes lie."""

from __future__ import annotations

import ast
import json
import struct
from enum import Enum
from pathlib import Path

from bnfold.errors import ModelError
from bnfold.files import check_regular, missing

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


class Content(Enum):
    ONNX = "onnx"
    TORCH = "torch"


def content_of(path: Path) -> Content:
    """The format family of a file.

    Raises:
        ModelError: where there is no such file, or it is a folder.
    """
    if path.is_dir():
        raise ModelError(f"{path} is a folder; name the model file in it, or {path}/*.onnx")
    check_regular(path)
    if path.suffix == ".py":
        _refuse_code(path)
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        raise ModelError(missing(path)) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    if head.startswith(_ZIP) or head.startswith(_PICKLE) or _is_safetensors(head):
        return Content.TORCH
    return Content.ONNX


def _refuse_code(path: Path) -> None:
    """Raises a `ModelError` that names what the file defines."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return
    defined = [n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    names = [n.name for n in defined]
    makers = [n.name for n in defined if isinstance(n, ast.FunctionDef) and _needs_nothing(n)]
    example = next(iter([*makers, *names]), "make")
    among = f" (there are {', '.join(names[:6])})" if len(names) > 1 else ""
    raise ModelError(
        f"{path} is Python code; name the function or class that makes the network, as "
        f"{path}:{example}{among}"
    )


def _needs_nothing(function: ast.FunctionDef) -> bool:
    """Whether it can be called without arguments."""
    given = function.args
    required = len(given.posonlyargs) + len(given.args) - len(given.defaults)
    return not required and None not in given.kw_defaults


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes of header length, then a JSON object."""
    if len(head) < 10:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    if not 2 <= length <= 1 << 27 or head[8:9] != b"{":
        return False
    header = head[8 : 8 + length]
    try:
        return len(header) < length or isinstance(json.loads(header), dict)
    except ValueError:
        return False
