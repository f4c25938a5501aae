"""The audit: a linter for BatchNorm. One rule, one file, one code, its docstring its documentation."""

from typing import TYPE_CHECKING

from bnfold.later import later

if TYPE_CHECKING:
    from bnfold.audit.drift import Drift, Observations, Observed
    from bnfold.audit.finding import Finding, Group, Severity, grouped, in_words, tally
    from bnfold.audit.rule import PARTS, Rule
    from bnfold.audit.rules import FAMILIES, RULES, find_rule
    from bnfold.audit.run import run_rules
    from bnfold.audit.selection import Selection, Suppressed
    from bnfold.audit.settings import FailOn, Settings, load_settings
else:
    __getattr__ = later(
        __name__,
        {
            "bnfold.audit.drift": ("Drift", "Observations", "Observed"),
            "bnfold.audit.finding": (
                "Finding",
                "Group",
                "Severity",
                "grouped",
                "in_words",
                "tally",
            ),
            "bnfold.audit.rule": ("PARTS", "Rule"),
            "bnfold.audit.rules": ("FAMILIES", "RULES", "find_rule"),
            "bnfold.audit.run": ("run_rules",),
            "bnfold.audit.selection": ("Selection", "Suppressed"),
            "bnfold.audit.settings": ("FailOn", "Settings", "load_settings"),
        },
    )

__all__ = [
    "FAMILIES",
    "PARTS",
    "RULES",
    "Drift",
    "FailOn",
    "Finding",
    "Group",
    "Observations",
    "Observed",
    "Rule",
    "Selection",
    "Settings",
    "Severity",
    "Suppressed",
    "find_rule",
    "grouped",
    "in_words",
    "load_settings",
    "run_rules",
    "tally",
]
