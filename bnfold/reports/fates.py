"""How reports call the way that a folded layer went."""

from __future__ import annotations

from bnfold.planning import Direction

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
