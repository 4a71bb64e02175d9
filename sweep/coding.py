"""Compressing and decompressing files with a trained model, wherever that model lies."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from analysis.frontier import frontier
from analysis.runs import download_model, read_sweep
from analysis.sweeps import find_sweep
from rdmodels import checkpoint
from rdmodels.bitstream import (
    BitstreamError,
    CodingModel,
    compress_symbols,
    decode_images,
    decompress_batch,
    encode_images,
    load_coding_model,
)
from rdmodels.config import ConfigError
from rdmodels.data import Pixels, read_image
from rdmodels.metrics import psnr_db
from sweep.directory import TRIALS

SUFFIX = ".rdi"
MODEL_URIS = ("models:/", "runs:/")


@dataclass(frozen=True)
class Coded:
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


@contextmanager
def open_model(
    text: str, root: Path, tracking_uri: str | None, device: str
) -> Iterator[CodingModel]:
    """The model that `text` names: a directory, `SWEEP@POINT`, or an MLflow model URI.

    POINT is a trial of the sweep's frontier, or a rate in bpp: the point with the highest rate
    that is not above it.

    Raises:
        ConfigError, SweepReadError: if there is no such model; with what there is.
    """
    if text.startswith(MODEL_URIS):
        with tempfile.TemporaryDirectory() as folder:
            uri = tracking_uri or f"sqlite:///{root.resolve() / 'mlflow.db'}"
            yield load_coding_model(download_model(text, uri, Path(folder)), device)
    elif "@" in text and not Path(text).exists():
        sweep, _, point = text.rpartition("@")
        directory = find_sweep(sweep, root)
        yield load_coding_model(directory / TRIALS / pick_point(directory, point), device)
    else:
        yield load_coding_model(Path(text), device)


def pick_point(directory: Path, point: str) -> str:
    """The trial of the frontier of the sweep in `directory` that `point` names.

    Raises:
        ConfigError: if there is none; the message lists the frontier.
    """
    sweep = read_sweep(directory)
    members = frontier(sweep.trials, sweep.info.distortion)
    rates = dict(zip(members["trial_id"], members["val_bpp"], strict=True))
    if point in rates:
        return point
    listing = ", ".join(f"{trial_id} ({rate:.4g} bpp)" for trial_id, rate in rates.items())
    try:
        limit = float(point)
    except ValueError:
        raise ConfigError(
            f"{point!r} is no point of the frontier of {directory}: {listing or 'it is empty'}"
        ) from None
    below = [trial_id for trial_id, rate in rates.items() if rate <= limit]
    if not below:
        raise ConfigError(
            f"no point of the frontier of {directory} is at {limit:g} bpp or below:"
            f" {listing or 'it is empty'}"
        )
    # Rates ascend along the frontier.
    return str(below[-1])


def compress_files(
    model: CodingModel, sources: Sequence[Path], output: Path, *, overwrite: bool = False
) -> Iterator[Coded]:
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
        yield Coded(source, path, height, width, len(data), quality)


def decompress_files(
    model: CodingModel, sources: Sequence[Path], output: Path, *, overwrite: bool = False
) -> Iterator[Coded]:
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
        for index, image in enumerate(images):
            several = path.with_stem(f"{path.stem}-{index:05d}")
            target = path if len(images) == 1 else several
            _write_png(target, image)
            height, width = image.shape[-2:]
            yield Coded(source, target, height, width, len(data) // len(images))


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
