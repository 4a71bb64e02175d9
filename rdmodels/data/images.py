"""Images in memory: 8-bit pixels, read from files without losing anything silently."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from rdmodels.data.depth import bits_per_channel
from rdmodels.errors import DatasetError

Pixels = NDArray[np.uint8]

BATCH_PIXELS = 2**20
"""Pixels that are evaluated at once, if images are smaller: large ones would fill the memory."""


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """8-bit images of one split: `images[i]` is (channels, H, W); sizes may differ in a folder.

    A set of one size is a single (N, channels, H, W) array. sha256: of the images as they were
    read, in any order; empty for a part of a split.
    """

    images: Pixels | tuple[Pixels, ...]
    names: tuple[str, ...]
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return int(self.images[0].shape[0])

    @property
    def stacked(self) -> Pixels | None:
        """All images as one (N, channels, H, W) array, if they have one size."""
        return self.images if isinstance(self.images, np.ndarray) else None

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> "ImageSet":
        """The images at `indices`, in that order."""
        names = tuple(self.names[i] for i in indices)
        if isinstance(self.images, np.ndarray):
            return ImageSet(self.images[np.asarray(indices, dtype=np.int64)], names)
        return ImageSet(tuple(self.images[i] for i in indices), names)

    def batches(self, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        """Whole images in order, float (B, channels, H, W) in [0, 1]; B is 1 for mixed sizes."""
        pixels = self.images[0][0].size
        step = min(batch_size, max(1, BATCH_PIXELS // pixels)) if self.stacked is not None else 1
        for start in range(0, len(self), step):
            part = self.images[start : start + step]
            yield to_float(torch.tensor(np.stack(list(part))).to(device))


def to_float(pixels: Tensor) -> Tensor:
    """8-bit pixels -> float32 in [0, 1]."""
    return pixels.float() / 255.0


def with_color(images: ImageSet, color: str) -> ImageSet:
    """`images` in the colours that a trial asks for: auto, grey or rgb."""
    if color == "auto" or (color == "grey") == (images.channels == 1):
        return images
    converted = tuple(_convert(image, color) for image in images.images)
    stacked = images.stacked is not None
    return dataclasses.replace(images, images=np.stack(converted) if stacked else converted)


def read_image(file: Path, channels: int) -> Pixels:
    """One image file as 8-bit pixels (channels, H, W); grey becomes RGB where RGB is wanted.

    Raises:
        DatasetError: as `decode_file`, or if the image has colour and one channel is wanted.
    """
    image = decode_file(file)
    if channels == 1 and image.mode != "L":
        raise DatasetError(f"{file} has colour, but the model codes grey images: convert it first")
    return planes(image, "L" if channels == 1 else "RGB")


def _convert(image: Pixels, color: str) -> Pixels:
    pillow = Image.fromarray(image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0))
    return planes(pillow, "L" if color == "grey" else "RGB")


def planes(image: Image.Image, mode: str) -> Pixels:
    """A Pillow image, converted to mode L or RGB, as (channels, H, W)."""
    array = np.asarray(image.convert(mode))
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def decode_file(file: Path) -> Image.Image:
    """An image file as Pillow mode L or RGB, turned the way its EXIF orientation says.

    Raises:
        DatasetError: if it cannot be read, has more than 8 bits a channel, or transparent pixels.
    """
    try:
        with Image.open(file) as opened:
            bits = bits_per_channel(opened, file)
            opened.load()
            image = ImageOps.exif_transpose(opened)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(
            f"{file} cannot be read as an image ({error}): repair it or remove it"
        ) from error
    if bits > 8:
        raise DatasetError(
            f"{file} has {bits} bits a channel, this codec codes 8: convert it to 8 bits"
        )
    if "A" in image.getbands() or "transparency" in image.info:
        alpha = image.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            raise DatasetError(f"{file} has transparent pixels, flatten it")
    return image.convert("L" if image.mode in GREY_MODES else "RGB")


GREY_MODES = ("1", "L", "LA")
"""Pillow's modes of images without colour."""


def is_grey_file(file: Path) -> bool:
    """Whether an image file has no colour, by its header alone.

    Raises:
        DatasetError: if it cannot be read as an image.
    """
    try:
        with Image.open(file) as opened:
            return opened.mode in GREY_MODES
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(
            f"{file} cannot be read as an image ({error}): repair it or remove it"
        ) from error
