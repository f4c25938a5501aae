"""How reports call the way that a folded layer went."""

from __future__ import annotations

from bnfold.planning import Direction
from bnfold.planning.forms import Form

ARROWS: dict[Direction | None, str] = {
    Direction.BACKWARD: "↑",
    Direction.FORWARD: "↓",
    Direction.BOTH: "↕",
    None: "=",
}
WAYS: dict[Direction | None, str] = {
    Direction.BACKWARD: "backward",
    Direction.FORWARD: "forward",
    Direction.BOTH: "both ways",
    None: "in parallel",
}
_FORMS: dict[Form | None, str] = {
    "affine": "a product and a sum",
    "depthwise": "a depthwise convolution",
    None: "",
}


def lowered_to(form: Form | None) -> str:
    """What a BatchNorm that stays is written as; empty where it stays a BatchNorm."""
    return _FORMS[form]
