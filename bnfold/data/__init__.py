"""Data samples: what a model wants, and where it comes from. One file per kind of source."""

from __future__ import annotations

from bnfold.data.opening import open_sample, sample_files
from bnfold.data.signature import InputSpec
from bnfold.data.source import Sample, SampleOptions, Source

__all__ = ["InputSpec", "Sample", "SampleOptions", "Source", "open_sample", "sample_files"]
