"""Rate and quality of single images, their means, and the table of them on disk."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rdmodels.metrics import mean_of
from rdmodels.results.trial import Metrics


@dataclasses.dataclass(frozen=True)
class ImageResult:
    """Rate and quality of one image; conventions in `rdmodels.metrics`.

    bits_estimated: cross-entropy of its symbols under the float context model. bits_written: of
    its stream, header included; None where nothing was written. Small images of one size share a
    stream: `stream_images` says how many, and each one's bits and seconds are its share (of the
    payload in proportion to `bits_estimated`, of the rest evenly).
    """

    name: str
    pixels: int
    symbols: int
    bits_estimated: float
    mse: float
    psnr_db: float | None
    ssim: float | None
    ms_ssim: float | None
    bits_written: float | None = None
    bits_header: float | None = None
    stream_images: int | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    decoded_equal: bool | None = None


def summarise(images: Sequence[ImageResult], loss: float) -> Metrics:
    """Means over images: bpp, MSE, PSNR … per image first, then averaged."""
    assert images
    count = len(images)
    estimated = sum(image.bits_estimated / image.pixels for image in images) / count
    written = mean_of([i.bits_written and i.bits_written / i.pixels for i in images])
    return Metrics(
        bpp=estimated if written is None else written,
        bpp_estimated=None if written is None else estimated,
        bits_per_symbol=sum(i.bits_estimated for i in images) / sum(i.symbols for i in images),
        mse=sum(image.mse for image in images) / count,
        psnr_db=mean_of([image.psnr_db for image in images]),
        ssim=mean_of([image.ssim for image in images]),
        ms_ssim=mean_of([image.ms_ssim for image in images]),
        loss=loss,
    )


def write_images(path: Path, images: Sequence[ImageResult]) -> None:
    """Write the per-image table as Parquet, a column for each field of `ImageResult`."""
    # Only whoever writes or reads a table pays for loading it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([dataclasses.asdict(image) for image in images]), path)
