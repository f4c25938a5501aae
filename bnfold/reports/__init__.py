"""Reports: one file per format. A report goes to stdout and nothing else does."""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(document: Any) -> str:
    """``document`` as JSON, which has no word for NaN and infinity: they become null."""
    return json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
