"""What a trial produces. Field names are the metric keys and, later, the report's columns.

One name, one meaning, on every split and in every file: `bpp` is bytes that were written and
decoded back, `bpp_estimated` the cross-entropy under the float context model.
"""

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class Metrics:
    """Means over the images of one split. None where a value does not exist.

    bpp: bits of the streams that were written and decoded back, headers included, over the pixels;
    None while training, when nothing is written. Small images of one size share a stream.
    bpp_standalone: the same with a stream of its own for every image. bpp_estimated,
    bits_per_symbol_estimated: the cross-entropy under the float context model. loss: the training
    criterion, distortion + beta * rate excess, on these images.
    """

    bpp: float | None
    bpp_standalone: float | None
    bpp_estimated: float
    bits_per_symbol_estimated: float
    mse: float
    psnr_db: float | None
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_db: float | None
    loss: float


@dataclass(frozen=True)
class TrainMetrics:
    """Means over the training batches of one epoch, and its speed."""

    loss: float
    distortion: float
    bits_per_symbol_estimated: float
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


WRITTEN = ("bpp", "bpp_standalone")
"""Figures of written streams, which no epoch has while it trains."""


def metric_keys() -> list[str]:
    """Every metric key that a trial can log."""
    evaluated = [field.name for field in fields(Metrics)]
    keys = [f"train/{field.name}" for field in fields(TrainMetrics)]
    keys += [f"val/{name}" for name in evaluated if name not in WRITTEN]
    keys += [f"{split}/{name}" for split in ("best", "test") for name in evaluated]
    return [*keys, "best/epoch", "train/seconds"]
