"""What the drift rules share: when a layer counts as adrift, and how badly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity

if TYPE_CHECKING:
    from bnfold.audit.drift import Drift
    from bnfold.audit.subject import Layer


def by_size(size: float, warning: float, error: float) -> Severity | None:
    """The severity of a measure."""
    if size < warning:
        return None
    return Severity.ERROR if size >= error else Severity.WARNING


def is_adrift(layer: Layer, drift: Drift) -> bool:
    """Whether the layer as a whole sees another distribution than it was trained on."""
    limits = layer.thresholds
    return drift.mean_rms >= limits.mean_warning or drift.variance_factor >= limits.variance_warning
