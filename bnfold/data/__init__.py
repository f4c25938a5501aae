"""Data samples: what a model wants, and where it comes from."""

from __future__ import annotations

from bnfold.data.signature import InputSpec
from bnfold.data.source import Sample, open_sample

__all__ = ["InputSpec", "Sample", "open_sample"]
