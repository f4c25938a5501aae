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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data.arrays import ArrayRows
from bnfold.data.signature import InputSpec
from bnfold.data.source import SampleOptions
from bnfold.data.spool import spooled
from bnfold.errors import DataError, UsageError

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
        for part in found["name"].split("."):
            target = getattr(target, part)
    except FileNotFoundError:
        raise UsageError(f"{found['module']} does not exist; check the path") from None
    except AttributeError:
        raise UsageError(f"{found['module']} has no {found['name']}") from None
    except Exception as error:  # whatever the user's module does when it is imported
        raise UsageError(f"importing {found['module']} failed: {_words(error)}") from None
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


def open_callable(text: str, inputs: Sequence[InputSpec], options: SampleOptions) -> ArrayRows:
    """Calls it and notes down what it yields, up to ``options.samples``.

    Raises:
        UsageError: where there is no such callable.
        DataError: where it fails, or yields what no input wants.
    """
    made = load_callable(text)
    # Drawing at random needs all there is to draw from.
    limit = None if options.shuffle else options.samples
    try:
        produced = made()
        if isinstance(produced, np.ndarray | Mapping) or hasattr(produced, "numpy"):
            produced = [produced]
        if not isinstance(produced, Iterable):
            raise DataError(f"{text} returned {type(produced).__name__}; yield arrays instead")
        batches = (by_name(item, inputs, text) for item in produced)
        return ArrayRows(spooled(batches, inputs, limit, text), inputs, text)
    except (DataError, KeyboardInterrupt):
        raise
    except Exception as error:  # whatever the user's code raises
        raise DataError(f"{text} failed: {_words(error)}") from error


def by_name(item: Any, inputs: Sequence[InputSpec], where: str) -> dict[str, NDArray[Any]]:
    """Arrays by name from an array, a tuple in the order of the inputs, or a mapping.

    Raises:
        DataError: where it is something else.
    """
    if isinstance(item, Mapping):
        return {str(k): as_array(v, where) for k, v in item.items() if _is_numeric(v)}
    if isinstance(item, tuple | list):
        if len(item) < len(inputs):
            raise DataError(
                f"{where} yields {len(item)} arrays, but the model has {len(inputs)} inputs"
            )
        pairs = zip(inputs, item, strict=False)  # labels come behind
        return {spec.name: as_array(value, where) for spec, value in pairs}
    return {inputs[0].name if len(inputs) == 1 else "": as_array(item, where)}


def as_array(value: Any, where: str) -> NDArray[Any]:
    """A NumPy array from what has one: arrays, torch tensors, numbers.

    Raises:
        DataError: where it holds no numbers.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy knows no such type
            value = value.float()
        value = value.numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" and "float" not in array.dtype.name:
        raise DataError(f"{where} yields {type(value).__name__}, which holds no numbers")
    return array


def _is_numeric(value: Any) -> bool:
    return hasattr(value, "dtype") or isinstance(value, int | float)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
