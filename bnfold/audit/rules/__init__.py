"""The rules, one file each. What is listed here is all there is."""

from __future__ import annotations

from bnfold.audit.rule import Rule
from bnfold.audit.rules import (
    bn101_non_finite,
    bn102_negative_variance,
    bn103_division_by_zero,
    bn104_loud_channel,
    bn105_untouched_statistics,
    bn106_dead_channels,
    bn107_zero_scale,
    bn108_weight_range,
    bn109_fold_loses_numbers,
    bn110_half_precision,
    bn201_training_mode,
    bn202_overridable_parameters,
    bn203_stands_alone,
    bn204_pre_activation,
    bn205_shared_value,
    bn206_zero_padded_reader,
    bn207_fold_blocked,
    bn208_shared_weight,
    bn209_redundant_bias,
    bn210_dropout_before,
    bn211_response_norm,
    bn212_taken_apart,
    bn213_computed_norm,
    bn301_mixed_epsilon,
    bn302_unusual_epsilon,
    bn303_extreme_momentum,
    bn304_mixed_precision,
    bn401_mean_drift,
    bn402_variance_drift,
    bn403_channel_drift,
    bn404_drift_begins,
    bn405_few_values,
)

RULES: tuple[Rule, ...] = (
    bn101_non_finite.RULE,
    bn102_negative_variance.RULE,
    bn103_division_by_zero.RULE,
    bn104_loud_channel.RULE,
    bn105_untouched_statistics.RULE,
    bn106_dead_channels.RULE,
    bn107_zero_scale.RULE,
    bn108_weight_range.RULE,
    bn109_fold_loses_numbers.RULE,
    bn110_half_precision.RULE,
    bn201_training_mode.RULE,
    bn202_overridable_parameters.RULE,
    bn203_stands_alone.RULE,
    bn204_pre_activation.RULE,
    bn205_shared_value.RULE,
    bn206_zero_padded_reader.RULE,
    bn207_fold_blocked.RULE,
    bn208_shared_weight.RULE,
    bn209_redundant_bias.RULE,
    bn210_dropout_before.RULE,
    bn211_response_norm.RULE,
    bn212_taken_apart.RULE,
    bn213_computed_norm.RULE,
    bn301_mixed_epsilon.RULE,
    bn302_unusual_epsilon.RULE,
    bn303_extreme_momentum.RULE,
    bn304_mixed_precision.RULE,
    bn401_mean_drift.RULE,
    bn402_variance_drift.RULE,
    bn403_channel_drift.RULE,
    bn404_drift_begins.RULE,
    bn405_few_values.RULE,
)
FAMILIES = {"BN1": "statistics", "BN2": "structure", "BN3": "settings", "BN4": "drift"}


def find_rule(code: str) -> Rule | None:
    """The rule of a code or a name, in any case."""
    wanted = code.strip().lower()
    return next((r for r in RULES if wanted in (r.code.lower(), r.name)), None)
