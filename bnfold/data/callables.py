"""Data made by the user's own code: ``module:callable`` or ``file.py:callable``.

The callable is called without arguments and returns, or yields, batches or single samples: arrays,
tuples (the inputs first, in their order; labels after them) or dicts by input name; torch tensors
and DataLoaders serve as well. As it may not yield the same twice, what it yields is noted down.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnfold.data.items import Items
from bnfold.data.signature import InputSpec
from bnfold.data.source import SampleOptions
from bnfold.data.spool import SpooledRows, spooled
from bnfold.errors import BnfoldError, DataError, UsageError
from bnfold.files import meant_in

_NAME = re.compile(r"^(?P<module>.+):(?P<name>[A-Za-z_][\w.]*)$")


def is_callable_name(text: str) -> bool:
    """Whether ``text`` has the form ``module:callable`` or ``file.py:callable``."""
    found = _NAME.match(text)
    if found is None:
        return False
    module = found["module"]
    return module.endswith(".py") or all(part.isidentifier() for part in module.split("."))


def load_callable(text: str) -> Any:
    """The object that ``module:callable`` or ``file.py:callable`` names.

    Raises:
        UsageError: where there is none, or importing it fails.
    """
    found = _NAME.match(text)
    if found is None:
        raise UsageError(f"{text} does not name a function; write file.py:function")
    try:
        target: Any = _module(found["module"])
    except FileNotFoundError:
        raise UsageError(f"{found['module']} does not exist; check the path") from None
    except Exception as error:  # whatever the user's module does when it is imported
        raise UsageError(f"importing {found['module']} failed: {_words(error)}") from None
    for part in found["name"].split("."):
        if not hasattr(target, part):
            hint = meant_in(target, part, "name a function of it")
            raise UsageError(f"{found['module']} has no {found['name']}; {hint}")
        target = getattr(target, part)
    if not callable(target):
        raise UsageError(f"{text} is no function but {type(target).__name__}")
    return target


def _module(name: str) -> Any:
    if not name.endswith(".py"):
        if "" not in sys.path:
            sys.path.insert(0, "")
        return importlib.import_module(name)
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def open_callable(text: str, inputs: Sequence[InputSpec], options: SampleOptions) -> SpooledRows:
    """Calls it and notes down what it yields, up to ``options.samples``.

    Raises:
        UsageError: where there is no such callable.
        DataError: where it fails, or yields what no input wants.
    """
    made = load_callable(text)
    try:
        return open_items(made(), inputs, options, text)
    except (BnfoldError, KeyboardInterrupt):
        raise
    except Exception as error:  # whatever the user's code raises
        raise DataError(f"{text} failed: {_words(error)}") from error


def open_items(
    produced: Any, inputs: Sequence[InputSpec], options: SampleOptions, where: str
) -> SpooledRows:
    """Notes down what user code yields, up to ``options.samples``.

    Raises:
        DataError: where no input wants it.
    """
    # Drawing at random needs all there is to draw from.
    limit = None if options.shuffle else options.samples
    items = Items(inputs, where)
    rows = spooled(items.all(produced), inputs, limit, where)
    rows.left_out, rows.surplus = items.left_out, items.surplus
    return rows


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
