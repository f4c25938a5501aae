"""Data samples: what a model wants, and where it comes from. One file per kind of source."""

from __future__ import annotations

from bnfold.data.memory import Given
from bnfold.data.opening import Data, first_rows, open_sample, sample_files
from bnfold.data.signature import InputSpec
from bnfold.data.source import Sample, SampleOptions, Source

__all__ = [
    "Data",
    "Given",
    "InputSpec",
    "Sample",
    "SampleOptions",
    "Source",
    "first_rows",
    "open_sample",
    "sample_files",
]
