"""``bnfold verify``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bnfold.cli.groups import grouped
from bnfold.cli.model_options import ModelFlags
from bnfold.cli.options import Format, FormatOption, InputData, OutputFlags, SampleFlags


@grouped
def verify(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="The model to trust.")],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="The model to compare.")],
    sample: SampleFlags,
    source: ModelFlags,
    data: InputData = None,
    candidate_weights: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint for CANDIDATE, where that is a factory.",
            rich_help_panel="PyTorch models",
        ),
    ] = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Compare two models on the same inputs, the reference's own rounding as the yardstick."""
    from bnfold.formats import is_onnx
    from bnfold.jobs import verify as job
    from bnfold.jobs.common import DEFAULT_SAMPLES

    sampling = sample.options(DEFAULT_SAMPLES)
    first, second = source, replace(source, weights=candidate_weights)
    # Example inputs are for the one that has to be traced.
    if is_onnx(candidate) and candidate_weights is None:
        second = ModelFlags()
    if is_onnx(reference) and source.weights is None:
        first = ModelFlags()
    opened = first.open(reference, data, sampling), second.open(candidate, data, sampling)
    OutputFlags(format).finish(job(*opened, data=data, sampling=sampling))
