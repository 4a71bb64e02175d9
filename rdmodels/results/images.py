"""Rate and quality of single images, their means, and the table of them on disk."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from rdmodels.errors import ConfigError
from rdmodels.results.trial import Metrics

VALIDATION_IMAGES = "validation.parquet"
TEST_IMAGES = "test.parquet"
"""Files of the per-image tables in a trial's directory."""


@dataclasses.dataclass(frozen=True)
class ImageResult:
    """Rate and quality of one image; conventions in `rdmodels.metrics`.

    bits_estimated: cross-entropy of its symbols under the float context model. bits_written: of
    its stream, header included; None where nothing was written. Small images of one size share a
    stream: `stream_images` says how many, and each one's bits and seconds are its share (of the
    payload in proportion to `bits_estimated`, of the rest evenly). bits_standalone: of a stream of
    its own, header included, written and decoded back as well; the seconds are of both.
    """

    name: str
    pixels: int
    symbols: int
    bits_estimated: float
    mse: float
    psnr_db: float | None
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_db: float | None
    bits_written: float | None = None
    bits_header: float | None = None
    bits_standalone: float | None = None
    stream_images: int | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    decoded_equal: bool | None = None


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are there; None if there is none."""
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None


@dataclasses.dataclass(frozen=True)
class LatentUse:
    """How a split's images use the latent; fields as in `rdmodels.results.trial.Metrics`."""

    importance: float
    centers_used: int
    symbol_entropy: float


def summarise(
    images: Sequence[ImageResult], latent: LatentUse, rate_over_target: float, loss: float
) -> Metrics:
    """Means over images: bpp, MSE, PSNR … per image first, then averaged."""
    assert images
    symbols = sum(image.symbols for image in images)
    estimated = mean_rate(images, "bits_estimated")
    assert estimated is not None
    return Metrics(
        bpp=mean_rate(images, "bits_written"),
        bpp_standalone=mean_rate(images, "bits_standalone"),
        bpp_estimated=estimated,
        bits_per_symbol_estimated=math.fsum(i.bits_estimated for i in images) / symbols,
        rate_over_target=rate_over_target,
        mse=math.fsum(image.mse for image in images) / len(images),
        psnr_db=mean_of([image.psnr_db for image in images]),
        ssim=mean_of([image.ssim for image in images]),
        ms_ssim=mean_of([image.ms_ssim for image in images]),
        ms_ssim_db=mean_of([image.ms_ssim_db for image in images]),
        importance=latent.importance,
        centers_used=latent.centers_used,
        symbol_entropy=latent.symbol_entropy,
        loss=loss,
    )


def mean_rate(images: Sequence[ImageResult], bits: str) -> float | None:
    """The rate in bits per pixel that the field `bits` gives, per image, then averaged."""
    values = [(getattr(image, bits), image.pixels) for image in images]
    return mean_of([None if value is None else value / pixels for value, pixels in values])


def write_images(path: Path, images: Sequence[ImageResult]) -> None:
    """Write the per-image table as Parquet, a column for each field of `ImageResult`."""
    # Only whoever writes or reads a table pays for loading it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([dataclasses.asdict(image) for image in images]), path)


def read_images(path: Path) -> list[ImageResult]:
    """The per-image table that `write_images` wrote, in its order.

    Raises:
        ConfigError: if the file is missing, damaged, or has other columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
        return [ImageResult(**row) for row in rows]
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there: is its trial complete?") from None
    except (pa.ArrowException, TypeError, OSError) as error:
        raise ConfigError(f"{path} is no per-image table of this version ({error})") from error
