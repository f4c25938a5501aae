"""From what the user typed to a sample: which kind of source it is."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bnfold.data import arrays, callables, images, safetensors, tables, tensors
from bnfold.data.concatenated import Concatenated
from bnfold.data.masks import with_masks
from bnfold.data.memory import Given
from bnfold.data.signature import InputSpec, by_key, row_specs
from bnfold.data.source import Sample, SampleOptions, Source, choose
from bnfold.errors import DataError, UsageError
from bnfold.files import check_regular, missing

Data = str | Path | Given
Opener = Callable[[Path, Sequence[InputSpec], SampleOptions], Source]
_OPENERS: dict[str, Opener] = {
    ".npy": arrays.open_npy,
    ".npz": arrays.open_npz,
    ".safetensors": safetensors.open_safetensors,
    ".pt": tensors.open_tensors,
    ".pth": tensors.open_tensors,
    ".csv": tables.open_csv,
    ".parquet": tables.open_parquet,
}
KINDS = (
    ".npy, .npz, .safetensors, .pt, .csv, .parquet, images, a folder or glob of these, "
    "or file.py:callable"
)


def open_sample(
    source: Data, inputs: Sequence[InputSpec], options: SampleOptions | None = None
) -> Sample:
    """Opens a sample and checks its first row against a model's signature.

    Args:
        source: data in memory, a file or folder or glob (see `KINDS`), or ``module:callable`` or
            ``file.py:callable``, which is called and yields arrays, tuples or dicts. Arrays are
            named as the inputs, or there is one of each; further ones (labels) are left out. The
            first axis counts samples; where the inputs' own first axes differ, a sample is all
            that one call takes.
        inputs: what the model wants.
        options: which rows to take, and how to read images; all rows by default.

    Raises:
        DataError: where the data is missing, empty, unreadable, or names, types or shapes do not
            fit; the message shows both sides.
        MissingExtraError: where the kind needs a package that is not installed.
    """
    options = options or SampleOptions()
    check_image_options(source, options)
    keyed = any(spec.key is not None for spec in inputs)
    try:
        return _opened(source, inputs, options, keyed=keyed)
    except DataError:
        if not keyed:
            raise
        with suppress(DataError):
            return _opened(source, inputs, options, keyed=False)
        raise


def _opened(
    source: Data, inputs: Sequence[InputSpec], options: SampleOptions, *, keyed: bool
) -> Sample:
    masks, called = options.masks, by_key(inputs) if keyed else inputs
    opened = _open(source, with_masks(row_specs(called), masks), options)
    if not opened.count:
        raise DataError(f"{source} holds no samples; give at least one")
    rows = choose(opened.count, options)
    sample = Sample(str(source), opened, tuple(inputs), rows, masks, keyed)
    if not sample.count:
        raise DataError("a sample of size 0 was asked for; give at least one with --samples")
    sample.read(0, 1)
    sample.check_masks()
    return sample


def check_image_options(source: Data, options: SampleOptions) -> None:
    """Refuses what says how images become tensors where ``source`` holds none, by its name alone.

    Raises:
        UsageError: naming the option.
    """
    given = [name for name in _IMAGE_OPTIONS if getattr(options, name)]
    if not given or _may_hold_images(source):
        return
    raise UsageError(
        f"--{given[0].replace('_', '-')} is for images, and {source} holds none; prepare the data as the "
        "model wants it"
    )


_IMAGE_OPTIONS = ("image_size", "mean", "std", "layout", "color")


def _may_hold_images(source: Data) -> bool:
    files = sample_files(source)
    if isinstance(source, Given) or (files and files[0].suffix == ".py"):
        return False
    return not files or any(images.is_image(f) for f in files)


def first_rows(
    source: Data, inputs: Sequence[InputSpec], options: SampleOptions | None = None, count: int = 2
) -> Sample:
    """The first few samples, to try out a model whose inputs are not known yet.

    Args:
        source: as for `open_sample`.
        inputs: what the model may take; none: everything, by the names that it has in the data.
        options: how to read images.
        count: how many at most.

    Raises:
        DataError: as `open_sample`.
    """
    options = replace(options or SampleOptions(), samples=count, shuffle=False, mask=(), padding=())
    sample = open_sample(source, inputs, options)
    edge = next(iter(sample.breaks), sample.count)
    return replace(sample, rows=sample.rows[:edge])


def _open(source: Data, inputs: Sequence[InputSpec], options: SampleOptions) -> Source:
    if isinstance(source, Given):
        return source.open(inputs, options)
    text = str(source)
    path = Path(text)
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.is_file() and _is_known(f))
        return _open_files(files, text, inputs, options)
    if path.exists():
        check_regular(path, DataError)
        if not _is_known(path):
            raise DataError(f"{path} is no kind of data that bnfold reads; give {KINDS}")
        return _open_files([path], text, inputs, options)
    if callables.is_callable_name(text):
        return callables.open_callable(text, inputs, options)
    if glob.has_magic(text):
        files = sorted(Path(f) for f in glob.glob(text, recursive=True))
        return _open_files([f for f in files if _is_known(f)], text, inputs, options)
    raise DataError(missing(path, "check the path given with --data"))


def sample_files(source: Data) -> list[Path]:
    """The files that a sample is read from; none where it is made by code."""
    if isinstance(source, Given):
        return []
    path = Path(source)
    if path.is_dir():
        return [f for f in path.rglob("*") if f.is_file() and _is_known(f)]
    if path.exists():
        return [path]
    where, _, _ = str(source).rpartition(":")
    if where.endswith(".py"):
        return [Path(where)]
    return [Path(f) for f in glob.glob(str(source), recursive=True)]


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in _OPENERS or images.is_image(path)


def _open_files(
    files: Sequence[Path], text: str, inputs: Sequence[InputSpec], options: SampleOptions
) -> Source:
    if not files:
        raise DataError(f"{text} holds no file that bnfold reads; give {KINDS}")
    pictures = [f for f in files if images.is_image(f)]
    if pictures and len(pictures) < len(files):
        raise DataError(
            f"{text} holds images and other data ({pictures[0].name} beside "
            f"{next(f for f in files if f not in pictures).name}); give one kind, with a glob"
        )
    if pictures:
        return images.ImageFiles(pictures, inputs, options)
    for file in files:
        check_regular(file, DataError)
    opened = [_OPENERS[f.suffix.lower()](f, inputs, options) for f in files]
    return opened[0] if len(opened) == 1 else Concatenated(opened)
