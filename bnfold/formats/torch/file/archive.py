"""Looking into a zip archive of torch before torch does: what in it would run code, and bombs.

`torch.export.load` unpickles parts of an archive whatever they hold, evaluates the expressions of
dynamic sizes as Python, and opens compiled libraries. So every such part is looked at first. Tensors
that can be loaded with ``weights_only=True``, as example inputs are, run no code.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bnfold.errors import ModelError
from bnfold.files import check_ratio
from bnfold.formats.torch.file.expressions import is_plain_expression
from bnfold.formats.torch.file.quiet import quietly

_PICKLED = re.compile(r"(sample_inputs|weights|constants)/.*\.pt$|serialized_\w+\.(pt|json)$")
_PAYLOADS = re.compile(r"(weights|constants)/.*_config\.json$")
_PROGRAMS = re.compile(r"models/.*\.json$|serialized_exported_program\.json$")
_COMPILED = re.compile(r"aotinductor/|.*\.(so|dll|dylib|pyd)$")
# Those that take the path of a file.
_FILE_OPERATORS = re.compile(r"\b(aten[.:]+(from_file|save)|debugprims)\b")
_NAME = re.compile(
    r"[\w.]*"
)  # torch makes Python code of a graph, in which names stand as they are
_END_LENGTH = 22


def names_in(path: Path) -> list[str]:
    """The names of an archive's records, without the folder that all of them lie in.

    Raises:
        ModelError: where it is damaged, or unpacks to far more than it holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                check_ratio(path, info, ModelError)
            _check_end(path)
            return [_inner(info.filename) for info in archive.infolist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{path} is a damaged archive ({error}); copy it again") from None


def _check_end(path: Path) -> None:
    """Refuses what stands behind the end: other readers may take it for another archive."""
    with path.open("rb") as file:
        file.seek(-_END_LENGTH, 2)
        if not file.read().startswith(b"PK\x05\x06"):
            raise ModelError(f"{path} has something behind its end; get it from where it was made")


@contextmanager
def no_unpickling() -> Iterator[None]:
    """Lets torch load nothing but tensors, whatever `check_program` may have overlooked."""
    load: Any = torch.load

    def tensors_only(*given: Any, weights_only: bool = True, **more: Any) -> Any:
        if not weights_only:
            raise ModelError("it holds pickled Python objects; add --allow-pickle if you trust it")
        return load(*given, weights_only=True, **more)

    changed: Any = torch
    changed.load = tensors_only
    try:
        yield
    finally:
        changed.load = load


def check_program(path: Path) -> None:
    """Refuses an exported program of which loading would run code.

    Raises:
        ModelError: where it is damaged, or with the record that would.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for reason, record in _suspects(archive):
                raise ModelError(
                    f"{path} holds {reason} ({record}), and loading that runs code from the file; "
                    "export the program again, or add --allow-pickle if you trust the file"
                )
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise ModelError(f"{path} is a damaged archive ({error}); copy it again") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is no intact exported program; export it again") from None


def _suspects(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """What would run code, and in which record."""
    for info in archive.infolist():
        name = _inner(info.filename).removeprefix("data/")
        if _COMPILED.match(name):
            yield "compiled code", info.filename
        elif _PROGRAMS.search(name):
            yield from ((reason, info.filename) for reason in _in_program(archive.read(info)))
        elif _PAYLOADS.search(name):
            yield from _in_payloads(json.loads(archive.read(info)))
        elif _PICKLED.search(name) and not _holds_tensors_only(archive.read(info)):
            yield "pickled Python objects", info.filename


def _in_payloads(config: Any) -> Iterator[tuple[str, str]]:
    """Weights and constants that torch would unpickle."""
    for entry in _dicts(config):
        path = str(entry.get("path_name", ""))
        if entry.get("use_pickle") or path.startswith(("opaque_", "custom_obj_")):
            yield "pickled Python objects", path


def _in_program(text: bytes) -> Iterator[str]:
    for entry in _dicts(json.loads(text)):
        expression = entry.get("expr_str")
        if expression is not None and not is_plain_expression(expression):
            yield "a size that is computed by Python code"
        target = entry.get("target")
        if isinstance(target, str) and _FILE_OPERATORS.search(target):
            yield f"a call of {target}, which reads or writes files"
        for key in ("name", "as_name"):
            if not _NAME.fullmatch(str(entry.get(key) or "")):
                yield "a name that is Python code"


def _holds_tensors_only(content: bytes) -> bool:
    """Whether torch's own safe loader takes it, which is tried first."""
    if not content:
        return True
    try:
        quietly(lambda: torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except Exception:  # a damaged pickle makes the loader raise anything
        return False
    return True


def _dicts(found: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON document."""
    pending = [found]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
            pending += item.values()
        elif isinstance(item, list):
            pending += item


def _inner(name: str) -> str:
    return name.split("/", 1)[-1]
