"""bnfold: audit, recalibrate and fold the BatchNorm layers of a trained network.

>>> import bnfold
>>> bnfold.inspect("model.onnx").findings  # doctest: +SKIP
>>> bnfold.fold("model.onnx", "folded.onnx").ok  # doctest: +SKIP
>>> bnfold.fold(module, (x,)).model  # doctest: +SKIP
>>> bnfold.recalibrate(module, loader).model  # doctest: +SKIP
"""

from __future__ import annotations

from bnfold import startup

startup.begin()  # does nothing where bnfold is imported by another program

import importlib
import logging
from typing import TYPE_CHECKING, Any

from bnfold import errors
from bnfold.version import __version__

if TYPE_CHECKING:
    from bnfold.api import fold, inspect, load, recalibrate, verify
    from bnfold.api.results import Folded, Inspected, Recalibrated, Verified
    from bnfold.data import SampleOptions

# What is loaded when it is asked for, so that `import bnfold` stays quick.
_LATER = {
    **dict.fromkeys(("fold", "inspect", "load", "recalibrate", "verify"), "bnfold.api"),
    "Folded": "bnfold.api.results",
    "Inspected": "bnfold.api.results",
    "Recalibrated": "bnfold.api.results",
    "Verified": "bnfold.api.results",
    "SampleOptions": "bnfold.data",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'bnfold' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


__all__ = [
    "Folded",
    "Inspected",
    "Recalibrated",
    "SampleOptions",
    "Verified",
    "__version__",
    "errors",
    "fold",
    "inspect",
    "load",
    "recalibrate",
    "verify",
]
