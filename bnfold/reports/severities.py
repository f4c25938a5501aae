"""How reports on the terminal show the severity of a finding: its colour and its word."""

from __future__ import annotations

from bnfold.audit.finding import Severity

COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
WORDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
