"""What `recalibrate` is asked for, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from bnfold.jobs.common import FORMAT_VERSION, ModelInfo
from bnfold.jobs.fold import Output
from bnfold.recalibration.observer import Convention, RuntimeOptions
from bnfold.recalibration.output_change import OutputChange
from bnfold.recalibration.selection import Untouched
from bnfold.recalibration.self_check import SelfCheck
from bnfold.recalibration.statistics_change import ENOUGH, NormChange

DEFAULT_SAMPLES, DEFAULT_BATCH = 2048, 32
_MANY_PREDICTIONS, _LARGE_CHANGE = 0.05, 0.25
_ROUNDING = 1e-7

Method = Literal["population", "batch"]


@dataclass(frozen=True)
class RecalibrationOptions:
    """How to measure.

    ``prior``: how many samples the old statistics are worth. ``only`` and ``skip`` are globs on
    layer names. ``variance`` None: the format's convention. ``cache_memory`` in bytes, None: a
    quarter of what is free. ``max_drop``: by how much ``evaluate`` may fall. ``provenance``: say in
    the file where it comes from.
    """

    method: Method = "population"
    prior: float = 0.0
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    variance: Convention | None = None
    batch_size: int = DEFAULT_BATCH
    cache_memory: int | None = None
    max_drop: float = 0.0
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    force: bool = False
    provenance: bool = True


@dataclass(frozen=True)
class Cost:
    """What the measurement took: levels, and the bytes kept between them at most."""

    levels: int
    memory: int
    disk: int
    recomputed_batches: int

    def to_json(self) -> dict[str, int]:
        return {
            "levels": self.levels,
            "peak_cache_memory": self.memory,
            "peak_cache_disk": self.disk,
            "recomputed_batches": self.recomputed_batches,
        }


@dataclass(frozen=True)
class Evaluation:
    """The user's own measure, higher is better."""

    before: float
    after: float
    max_drop: float

    @property
    def passed(self) -> bool:
        return self.before - self.after <= self.max_drop

    def to_json(self) -> dict[str, Any]:
        numbers = {"before": self.before, "after": self.after}
        return {**numbers, "max_drop": self.max_drop, "passed": self.passed}


@dataclass(frozen=True)
class RecalibrationResult:
    """What `recalibrate` did. ``output`` is None where nothing was written."""

    model: ModelInfo
    method: Method
    variance: Convention
    prior: float
    data: str
    samples: int
    runtime: str
    cost: Cost
    batch_norms: tuple[NormChange, ...]
    untouched: tuple[Untouched, ...]
    outputs: tuple[OutputChange, ...]
    check: SelfCheck
    evaluation: Evaluation | None
    output: Output | None
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for was done."""
        return self.output is not None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should look at, in plain words."""
        found = (_warning(o, evaluated=self.evaluation is not None) for o in self.outputs)
        return tuple(sentence for sentence in found if sentence)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the sample says of itself, in plain words."""
        return tuple(s for s in (self._size_of_sample(), self._constant_channels()) if s)

    def _size_of_sample(self) -> str | None:
        worst = max(self.batch_norms, key=lambda c: c.half_moved)
        if not math.isfinite(worst.half_moved):
            return None
        if worst.half_moved <= ENOUGH:
            hint = "it is large enough"
        elif self.prior:
            hint = "give more samples for a better estimate"
        else:
            hint = "give more samples, or keep some of the old statistics with `--prior`"
        moved = f"{worst.half_moved:.2g} σ (at {worst.name})"
        return f"half of the sample gives the same means to within {moved}: {hint}"

    def _constant_channels(self) -> str | None:
        layers = [c for c in self.batch_norms if c.constant_channels]
        if not layers:
            return None
        worst = max(layers, key=lambda c: c.constant_channels / c.channels)
        of = f"{worst.constant_channels} of {worst.channels} at {worst.name}"
        total = sum(c.constant_channels for c in layers)
        return f"channels with one value throughout the sample (variance 0): {total}, {of}"

    @property
    def method_in_words(self) -> str:
        words = f"{self.method} method"
        if self.prior:
            words += f", the old statistics counted as {self.prior:g} samples"
        return words

    @property
    def verdict_of_check(self) -> str:
        """What the self-check found, in a sentence."""
        check = self.check
        numbers = (
            f"mean to {_digits(check.mean_error, ' σ')}, "
            f"variance to {_digits(check.variance_error, '')} (at {check.layer})"
        )
        if check.agrees and self.prior:
            return f"stored are the old and the observed statistics blended as asked, {numbers}"
        if check.agrees:
            return f"stored and observed statistics agree, {numbers}"
        if check.expected:
            return f"stored and observed statistics differ, {numbers}"
        return (
            f"what the written network observes differs from batch statistics, {numbers}; "
            "`--method population` has no such difference"
        )

    @property
    def refusal(self) -> str | None:
        """Why nothing was written, None where something was."""
        if self.output is not None:
            return None
        if self.evaluation is None or self.evaluation.passed:
            return "the self-check failed"
        fall, allowed = self.evaluation.before - self.evaluation.after, self.evaluation.max_drop
        return (
            f"the evaluation fell by {fall:.4g}, and `--max-drop` allows {allowed:g}: keep the "
            "statistics that the model has, or give data like what it meets when deployed"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "command": "recalibrate",
            "model": self.model.to_json(),
            "method": self.method,
            "variance": self.variance,
            "prior": self.prior,
            "data": self.data,
            "samples": self.samples,
            "runtime": self.runtime,
            "cost": self.cost.to_json(),
            "batch_norms": [change.to_json() for change in self.batch_norms],
            "untouched": [each.to_json() for each in self.untouched],
            "outputs": [change.to_json() for change in self.outputs],
            "self_check": self.check.to_json(),
            "evaluation": self.evaluation.to_json() if self.evaluation else None,
            "warnings": list(self.warnings),
            "remarks": list(self.remarks),
            "notes": list(self.notes),
            "output": self.output.to_json() if self.output else None,
        }


def _warning(change: OutputChange, *, evaluated: bool) -> str | None:
    look = "look at the data (scaling, colours, layout)"
    see = (
        "if the model was accurate before, its statistics were right, and these would hurt: "
        f"{look if evaluated else f'compare with `--evaluate`, or {look}'}"
    )
    if change.argmax_agreement is not None:
        changed = 1 - change.argmax_agreement
        if changed >= _MANY_PREDICTIONS:
            return f"{changed:.0%} of the predictions in {change.name} changed; {see}"
        return None
    if change.relative_change >= _LARGE_CHANGE:
        return f"the output {change.name} changed by {change.relative_change:.0%}; {see}"
    return None


def _digits(error: float, unit: str) -> str:
    return "within rounding" if error < _ROUNDING else f"{error:.1g}{unit}"
