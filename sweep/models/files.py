"""Compressing and decompressing files with a trained model, wherever that model lies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rdmodels import checkpoint
from rdmodels.coding.bitstream import (
    compress_symbols,
    decode_images,
    decompress_batch,
    encode_images,
)
from rdmodels.coding.coding_model import CodingModel
from rdmodels.data.images import Pixels, read_image
from rdmodels.errors import BitstreamError, ConfigError
from rdmodels.metrics import psnr_db

SUFFIX = ".rdi"


@dataclass(frozen=True)
class CodedFile:
    """One file that was written, and its figures; psnr_db is None for a lossless one."""

    source: Path
    path: Path
    height: int
    width: int
    stream_bytes: int
    psnr_db: float | None = None

    @property
    def bpp(self) -> float:
        """Bits of the stream for each pixel of the image."""
        return 8.0 * self.stream_bytes / (self.height * self.width)


def compress_files(
    model: CodingModel, sources: Sequence[Path], output: Path, *, overwrite: bool = False
) -> Iterator[CodedFile]:
    """Compress each image to a file of its own.

    Raises:
        ConfigError: if an image cannot be read or is not of the model's kind, or a file is there.
    """
    for source, path in _targets(sources, output, SUFFIX, overwrite=overwrite):
        pixels = read_image(source, model.codec.channels)
        height, width = pixels.shape[-2:]
        symbols = encode_images(model, pixels[None])
        data = compress_symbols(model, symbols, (height, width))
        x_hat = decode_images(model, symbols, (height, width))[0]
        _write(path, data)
        difference = (pixels.astype(np.float64) - x_hat) / 255.0
        quality = psnr_db(float(np.square(difference).mean()))
        yield CodedFile(source, path, height, width, len(data), quality)


def decompress_files(
    model: CodingModel, sources: Sequence[Path], output: Path, *, overwrite: bool = False
) -> Iterator[CodedFile]:
    """Decompress each stream to PNG; one that holds several images gives numbered files.

    Raises:
        ConfigError, BitstreamError: if a stream cannot be read, is damaged or of another model, or
            a file is there.
    """
    for source, path in _targets(sources, output, ".png", overwrite=overwrite):
        try:
            data = source.read_bytes()
        except OSError as error:
            raise ConfigError(f"{source} cannot be read ({error.strerror})") from error
        try:
            images = decompress_batch(model, data)
        except BitstreamError as error:
            raise BitstreamError(f"{source}: {error}") from error
        targets = [path]
        if len(images) > 1:
            targets = [path.with_stem(f"{path.stem}-{n:05d}") for n in range(len(images))]
            for target in targets:
                _check_free(target, sources, overwrite=overwrite)
        for target, image in zip(targets, images, strict=True):
            _write_png(target, image)
            height, width = image.shape[-2:]
            yield CodedFile(source, target, height, width, len(data) // len(images))


def _targets(
    sources: Sequence[Path], output: Path, suffix: str, *, overwrite: bool
) -> list[tuple[Path, Path]]:
    """Where each source goes: `output` itself for a single one with a suffix, else inside it."""
    if len(sources) == 1 and output.suffix and not output.is_dir():
        _check_free(output, sources, overwrite=overwrite)
        return [(sources[0], output)]
    if output.exists() and not output.is_dir():
        raise ConfigError(f"-o {output} is a file: several files need a directory")
    targets = [output / (source.stem + suffix) for source in sources]
    for index, target in enumerate(targets):
        if target in targets[:index]:
            first = sources[targets.index(target)]
            raise ConfigError(
                f"{first} and {sources[index]} would both become {target}: run them one by one"
            )
        _check_free(target, sources, overwrite=overwrite)
    return list(zip(sources, targets, strict=True))


def _check_free(target: Path, sources: Sequence[Path], *, overwrite: bool) -> None:
    if target.resolve() in {source.resolve() for source in sources}:
        raise ConfigError(f"-o would replace the input {target}: choose another")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} is there already: choose another -o, or add --overwrite")


def _write(path: Path, data: bytes) -> None:
    try:
        checkpoint.write_bytes(path, data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from error


def _write_png(path: Path, image: Pixels) -> None:
    from io import BytesIO

    buffer = BytesIO()
    grey = image.shape[0] == 1
    Image.fromarray(image[0] if grey else image.transpose(1, 2, 0)).save(buffer, format="PNG")
    _write(path, buffer.getvalue())
