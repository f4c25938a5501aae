"""One finding: what a rule has to say about a layer or a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """A rule's code, how bad it is (error, warning, info), where, and the sentence."""

    code: str
    severity: str
    layer: str | None
    message: str

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity,
            "layer": self.layer,
            "message": self.message,
        }
