"""Reports: one file per format. A report goes to stdout and nothing else does."""

from __future__ import annotations

import json
import math
from typing import Any

_LINE = 100
_encode = json.JSONEncoder(allow_nan=False).encode


def json_text(document: Any) -> str:
    """``document`` as JSON, which has no word for NaN and infinity: they become null.

    What is short stands on one line. (The ``indent`` of the standard library leaves its quick
    encoder unused.)
    """
    try:
        return _laid_out(document, "") + "\n"
    except ValueError:  # some number is not finite
        return _laid_out(_finite(document), "") + "\n"


def _laid_out(value: Any, margin: str) -> str:
    text = _encode(value)
    if len(margin) + len(text) <= _LINE or not isinstance(value, dict | list | tuple):
        return text
    inner = margin + "  "
    if isinstance(value, dict):
        entries = [f"{_encode(str(k))}: {_laid_out(v, inner)}" for k, v in value.items()]
    else:
        entries = [_laid_out(each, inner) for each in value]
    start, end = text[0], text[-1]
    return f",\n{inner}".join(entries).join((f"{start}\n{inner}", f"\n{margin}{end}"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
