"""Factories: ``package.module:factory`` or ``path/to/file.py:factory``, a callable that makes a module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from bnfold.errors import ModelError, UsageError
from bnfold.files import SourceFile, meant_in
from bnfold.formats.torch.file.quiet import first_line
from bnfold.formats.torch.file.source import source_file
from bnfold.formats.torch.file.state import chosen, load_into, networks_in


def is_factory(source: str) -> bool:
    """Whether ``source`` names code rather than a file."""
    where, colon, name = source.rpartition(":")
    if not colon or Path(source).exists() or not all(p.isidentifier() for p in name.split(".")):
        return False
    return where.endswith(".py") or all(part.isidentifier() for part in where.split("."))


def loaded(
    source: str, weights: Path | None, weights_key: str | None, *, allow_pickle: bool
) -> tuple[nn.Module, SourceFile | None]:
    """What the factory returns with a checkpoint loaded into it, and the file of that.

    Raises:
        UsageError: where there is no such code, or no such network in the checkpoint.
        ModelError: where the checkpoint is damaged or does not fit.
    """
    file = None if weights is None else source_file(weights, "--weights")
    module = build(source)
    if weights is not None and file is not None:
        found = networks_in(weights, allow_pickle=allow_pickle)
        load_into(module, chosen(found, weights_key, weights, module), weights)
        file.check()
    return module, file


def build(source: str) -> nn.Module:
    """The module that the factory returns. A class is a factory; so is a module object.

    Raises:
        UsageError: where there is no such code.
        ModelError: where calling it fails or returns something else.
    """
    where, _, name = source.rpartition(":")
    home = _from_file(Path(where)) if where.endswith(".py") else _imported(where)
    found: Any = home
    for part in name.split("."):
        if not hasattr(found, part):
            hint = meant_in(found, part, "name a callable that returns the module")
            raise UsageError(f"{where} has no {name!r}; {hint}")
        found = getattr(found, part)
    return found if isinstance(found, nn.Module) else _called(found, source)


def _called(factory: Callable[[], Any], source: str) -> nn.Module:
    if not callable(factory):
        raise UsageError(f"{source} is not callable; name a function or class without arguments")
    try:
        module = factory()
    except Exception as error:  # the user's own code may raise anything
        raise ModelError(f"{source} failed: {type(error).__name__}: {first_line(error)}") from None
    if not isinstance(module, nn.Module):
        raise ModelError(f"{source} returned {type(module).__name__}; it must return an nn.Module")
    return module


def _imported(name: str) -> ModuleType:
    sys.path.insert(0, "")  # as python -m does
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{name} cannot be imported ({first_line(error)}); check PYTHONPATH"
        ) from None
    except Exception as error:  # the user's own code may raise anything
        raise ModelError(f"{name} failed: {type(error).__name__}: {first_line(error)}") from None
    finally:
        sys.path.remove("")


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{path} does not exist; check the path before the colon")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code may raise anything
        raise ModelError(f"{path} failed: {type(error).__name__}: {first_line(error)}") from None
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module
