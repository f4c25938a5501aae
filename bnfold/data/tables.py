"""Tables for models of tabular data: ``.csv``, and ``.parquet`` (pyarrow; extra ``tables``).

Columns are matched with the inputs by name; a model with one input of F features takes the F
columns that are left when a label is put aside.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data.signature import InputSpec
from bnfold.data.source import SampleOptions
from bnfold.data.spool import SpooledRows, spooled
from bnfold.errors import DataError, MissingExtraError

_LABELS = {"label", "labels", "target", "class", "y"}
_ROWS = 4096

Columns = dict[str, NDArray[Any]]


def open_csv(path: Path, inputs: Sequence[InputSpec], options: SampleOptions) -> SpooledRows:
    """A file whose first line names the columns (or holds numbers already).

    Raises:
        DataError: where a field is no number, or the columns do not fit.
    """
    batches = (columns_to_inputs(c, inputs, path) for c in _csv_columns(path))
    return spooled(batches, inputs, None, str(path))


def open_parquet(path: Path, inputs: Sequence[InputSpec], options: SampleOptions) -> SpooledRows:
    """Columns of numbers, or of lists of numbers of one length.

    Raises:
        DataError: where the file is damaged or the columns do not fit.
        MissingExtraError: where pyarrow is not installed.
    """
    try:
        pq: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtraError("reading parquet files", "tables") from None
    try:
        file = pq.ParquetFile(path)
        batches = (
            columns_to_inputs(_arrow_columns(b), inputs, path) for b in file.iter_batches(_ROWS)
        )
        return spooled(batches, inputs, None, str(path))
    except (OSError, ValueError) as error:  # pyarrow's errors are one of these
        raise DataError(f"{path} is no readable parquet file ({error})") from None


def columns_to_inputs(columns: Columns, inputs: Sequence[InputSpec], path: Path) -> Columns:
    """Arrays by input name, from columns by their own.

    Raises:
        DataError: with both sides, where they do not fit.
    """
    if all(spec.name in columns for spec in inputs):
        return {s.name: _shaped(columns[s.name], s) for s in inputs}
    features = inputs[0].shape[-1] if len(inputs) == 1 and inputs[0].shape else None
    chosen = list(columns)
    if features is not None and len(chosen) > features:
        chosen = [name for name in chosen if name.strip().lower() not in _LABELS]
    if len(inputs) != 1 or (features is not None and len(chosen) != features):
        wanted = "; ".join(spec.describe() for spec in inputs)
        raise DataError(
            f"{path} has {len(columns)} columns ({', '.join(list(columns)[:8])}"
            f"{', ...' if len(columns) > 8 else ''}), but the model wants {wanted}"
        )
    return {inputs[0].name: np.stack([columns[name] for name in chosen], axis=-1)}


def _shaped(column: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    """A column of numbers as the input's rank wants it: (N,) or (N, 1)."""
    extra = 0 if spec.shape is None else len(spec.shape) - column.ndim
    return column.reshape(column.shape + (1,) * max(extra, 0))


def _csv_columns(path: Path) -> Iterator[Columns]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            names = next(rows, [])
            if names and all(_is_number(name) for name in names):  # no header
                first, names = [names], [str(i) for i in range(len(names))]
            else:
                first = []
            while block := first + list(islice(rows, _ROWS)):
                first = []
                yield _numbers([row for row in block if row], names, path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no readable .csv file ({error})") from None


def _numbers(block: list[list[str]], names: list[str], path: Path) -> Columns:
    try:
        values = np.array(block, dtype=object)
        return {
            n: values[:, i].astype(np.float64) for i, n in enumerate(names) if _is_column(values, i)
        }
    except (ValueError, IndexError):
        raise DataError(
            f"{path} has rows of different lengths or fields that are no numbers; clean them first"
        ) from None


def _is_column(values: NDArray[Any], i: int) -> bool:
    """Text columns (identifiers, say) are no features."""
    return any(_is_number(v) for v in values[:, i])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _arrow_columns(batch: Any) -> Columns:
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        values = column.to_numpy(zero_copy_only=False)
        if values.dtype.kind == "O" and len(values) and hasattr(values[0], "__len__"):
            values = np.stack(values) if not isinstance(values[0], str) else values
        if values.dtype.kind in "fiub":
            columns[name] = values
    return columns
