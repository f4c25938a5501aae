"""Folders of images, decoded when they are asked for (Pillow; extra ``images``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data.signature import InputSpec, by_position
from bnfold.data.source import Arrays, Indices, SampleOptions
from bnfold.errors import DataError, MissingExtraError, UsageError
from bnfold.files import check_regular

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
_MODES = {"rgb": "RGB", "bgr": "RGB", "gray": "L"}
_RANK = 4
_MOST_PIXELS = 1 << 26

Shape = tuple[int | None, ...]


def is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES


class ImageFiles:
    """One image a row: resized, scaled to [0, 1] (for float inputs), normalised, laid out."""

    def __init__(
        self, files: Sequence[Path], inputs: Sequence[InputSpec], options: SampleOptions
    ) -> None:
        """Prepares to read.

        Raises:
            DataError: where the model has no single image input, or its size is nowhere said.
            MissingExtraError: where Pillow is not installed.
            UsageError: where an option makes no sense.
        """
        try:
            import PIL.Image  # noqa: F401
        except ImportError:
            raise MissingExtraError("reading images", "images") from None
        for file in files:
            check_regular(file, DataError)
        self._files, self._options = files, options
        self._spec, shape = _image_input(inputs)
        self._last = _channels_last(shape, options)
        plane = shape[1:3] if self._last else shape[2:4]
        channels = shape[3 if self._last else 1]
        self._color = options.color or ("gray" if channels == 1 else "rgb")
        if self._color not in _MODES:
            raise UsageError(f"--color is one of {', '.join(_MODES)}, not {options.color}")
        self._size = options.image_size or _known(plane)
        if self._size is None:
            raise DataError(
                f"the model takes images of any size ({self._spec.describe()}); "
                "say which with --image-size HEIGHTxWIDTH"
            )
        self._mean = _vector(options.mean, 1 if self._color == "gray" else 3, "--mean")
        self._std = _vector(options.std, 1 if self._color == "gray" else 3, "--std")
        self.count = len(files)
        self.left_out: tuple[str, ...] = ()
        self.surplus = 0
        self.groups: Indices | None = None
        self.notes = tuple(_large(self._mean, "--mean") + _large(self._std, "--std"))

    def read(self, indices: Indices) -> Arrays:
        """See `Source`."""
        images = np.stack([self._decoded(self._files[int(i)]) for i in indices])
        return {self._spec.name: images if self._last else np.moveaxis(images, 3, 1)}

    def _decoded(self, file: Path) -> NDArray[Any]:
        """Shape (height, width, channels)."""
        from PIL import Image, ImageOps

        assert self._size is not None
        height, width = self._size
        try:
            with _any_size(), Image.open(file) as opened:
                self._check_size(file, opened.width * opened.height)
                upright = ImageOps.exif_transpose(opened).convert(_MODES[self._color])
                resized = upright.resize((width, height), Image.Resampling.BILINEAR)
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{file} is no readable image ({error})") from None
        pixels = np.asarray(resized).reshape(height, width, -1)
        if self._color == "bgr":
            pixels = pixels[:, :, ::-1]
        if self._spec.dtype is not None and self._spec.dtype.kind in "iu":
            return pixels
        colours = pixels.astype(np.float32) / 255
        if self._mean is not None:
            colours = colours - self._mean
        return colours if self._std is None else colours / self._std

    def _check_size(self, file: Path, pixels: int) -> None:
        if self._options.size_limit and pixels > _MOST_PIXELS:
            raise DataError(
                f"{file} has {pixels / 1e6:,.0f} megapixels, and more than {_MOST_PIXELS / 1e6:.0f} are "
                "decoded with --no-size-limit only"
            )


@contextmanager
def _any_size() -> Iterator[None]:
    """Pillow without a limit of its own, which half refuses and half warns."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _image_input(inputs: Sequence[InputSpec]) -> tuple[InputSpec, Shape]:
    """The one input, and its shape, of which nothing may be known yet."""
    inputs = by_position(inputs)
    shapes = [spec.shape or (None,) * _RANK for spec in inputs]
    if len(inputs) != 1 or len(shapes[0]) != _RANK:
        wanted = "; ".join(spec.describe() for spec in inputs)
        raise DataError(f"images fit a model with one input of rank 4, but this one wants {wanted}")
    return inputs[0], shapes[0]


def _channels_last(shape: Shape, options: SampleOptions) -> bool:
    if options.layout is not None:
        if options.layout.upper() not in ("NCHW", "NHWC"):
            raise UsageError(f"--layout is NCHW or NHWC, not {options.layout}")
        return options.layout.upper() == "NHWC"
    return shape[1] not in (1, 3) and shape[3] in (1, 3)


def _known(plane: tuple[int | None, ...]) -> tuple[int, int] | None:
    height, width = plane
    return None if height is None or width is None else (height, width)


def _vector(values: tuple[float, ...], channels: int, option: str) -> NDArray[np.float32] | None:
    if not values:
        return None
    if len(values) not in (1, channels):
        raise UsageError(f"{option} takes 1 or {channels} numbers, not {len(values)}")
    return np.asarray(values, np.float32)


def _large(vector: NDArray[np.float32] | None, option: str) -> list[str]:
    """A warning where numbers seem to be meant for colours from 0 to 255."""
    largest = 0.0 if vector is None else float(vector.max())
    if largest <= 1:
        return []
    return [
        f"warning: {option} holds {largest:g}, and colours are taken as numbers from 0 to 1; divide it by "
        "255 if it is meant for colours from 0 to 255"
    ]
