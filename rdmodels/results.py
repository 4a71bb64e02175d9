"""What a trial produces. Field names are the metric keys and, later, the report's columns."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from rdmodels.metrics import mean_of


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Metrics:
    """Means over the images of one split. None where a value does not exist.

    bpp: bytes that were written and decoded back, headers included, in the final figures
    (`best/`, `test/`); the estimate while training (`val/`). bpp_estimated: the cross-entropy
    under the float context model, beside the former. loss: the training criterion, distortion +
    beta * rate excess, on these images.
    """

    bpp: float
    bpp_estimated: float | None
    bits_per_symbol: float
    mse: float
    psnr_db: float | None
    ssim: float | None
    ms_ssim: float | None
    loss: float


@dataclass(frozen=True)
class TrainMetrics:
    """Means over the training batches of one epoch, and its speed."""

    loss: float
    distortion: float
    bits_per_symbol: float
    images_per_second: float


@dataclass(frozen=True)
class EpochRecord:
    """What `fit` yields after each epoch. `epoch` counts from 0, `seconds` is its whole time.

    val: None if the evaluation failed, so that its figures are no data points.
    """

    epoch: int
    seconds: float
    train: TrainMetrics
    val: Metrics | None

    def metrics(self) -> dict[str, float]:
        """The record's values by metric key; missing values are left out."""
        val = {} if self.val is None else keyed("val", self.val)
        return keyed("train", self.train) | val


@dataclass(frozen=True)
class TrialResult:
    """The end of a trial: one checkpoint's figures on validation and on test images.

    best_epoch: the epoch whose weights these are, the one of least validation loss.
    """

    best_epoch: int
    epochs: int
    train_seconds: float
    best: Metrics
    test: Metrics

    def metrics(self) -> dict[str, float]:
        """The result's values by metric key; missing values are left out."""
        own = {"best/epoch": float(self.best_epoch), "train/seconds": self.train_seconds}
        return keyed("best", self.best) | keyed("test", self.test) | own


def keyed(split: str, metrics: Metrics | TrainMetrics) -> dict[str, float]:
    """`{"split/field": value}` for every value that is there."""
    return {f"{split}/{key}": value for key, value in asdict(metrics).items() if value is not None}


def metric_keys() -> list[str]:
    """Every metric key that a trial can log."""
    evaluated = [field.name for field in fields(Metrics)]
    keys = [f"train/{field.name}" for field in fields(TrainMetrics)]
    keys += [f"{split}/{name}" for split in ("val", "best", "test") for name in evaluated]
    return [*keys, "best/epoch", "train/seconds"]


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
