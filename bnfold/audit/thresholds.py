"""Every number that a rule compares with, named; the rules' documentation speaks of them by name."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


def _setting(default: float, meaning: str) -> float:
    value: float = field(default=default, metadata={"meaning": meaning})
    return value


@dataclass(frozen=True)
class Thresholds:
    """Settable in the table ``[tool.bnfold.thresholds]``, each name with hyphens."""

    dead_variance: float = _setting(
        1e-5, "variance, as a multiple of epsilon, at or below which a channel is dead"
    )
    loud_gain: float = _setting(
        10.0, "gain of a channel, as a multiple of its layer's median gain, that is worth a look"
    )
    zero_scale: float = _setting(1e-6, "magnitude of a scale that switches its channel off")
    lost_share: float = _setting(
        0.1, "share of the channels that fall within one int8 step of zero by folding"
    )
    half_limit: float = _setting(65504.0, "largest number that half precision holds")
    epsilon_min: float = _setting(1e-8, "smallest epsilon in common use")
    epsilon_max: float = _setting(1e-2, "largest epsilon in common use")
    mean_warning: float = _setting(0.5, "shift of the mean in standard deviations: a warning")
    mean_error: float = _setting(1.0, "shift of the mean in standard deviations: an error")
    variance_warning: float = _setting(2.0, "factor between the variances: a warning")
    variance_error: float = _setting(4.0, "factor between the variances: an error")
    divergence_warning: float = _setting(
        4.0, "Jeffreys divergence (nats) of a single channel: a warning"
    )
    few_samples: float = _setting(32.0, "samples below which drift may be chance")
    few_values: float = _setting(256.0, "observed values per channel below which drift is noise")


def setting_names() -> tuple[str, ...]:
    """The names as they stand in a settings file."""
    return tuple(f.name.replace("_", "-") for f in fields(Thresholds))


def meaning_of(name: str) -> tuple[float, str]:
    """Default and meaning of a setting (name with hyphens or underscores)."""
    found = next(f for f in fields(Thresholds) if f.name == name.replace("-", "_"))
    return float(found.default), str(found.metadata["meaning"])  # type: ignore[arg-type]
