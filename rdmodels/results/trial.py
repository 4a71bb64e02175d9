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
    bits_per_symbol_estimated: the cross-entropy under the float context model. ssim and ms_ssim
    are of final figures; while training, only of a trial that is trained on MS-SSIM.

    rate_over_target: `bpp` over target_bpp (`bpp_estimated` and the expected headers while
    training), or `bits_per_symbol_estimated` over h_target. importance: share of the latent that
    the importance map lets pass. centers_used: how many centers take at least a thousandth of the
    symbols. symbol_entropy: bits per symbol if each was coded by its frequency alone. loss: what
    the best epoch has the least of, `rdmodels.training.evaluation.criterion`.
    """

    bpp: float | None
    bpp_standalone: float | None
    bpp_estimated: float
    bits_per_symbol_estimated: float
    rate_over_target: float
    mse: float
    psnr_db: float | None
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_db: float | None
    importance: float
    centers_used: int
    symbol_entropy: float
    loss: float


@dataclass(frozen=True)
class TrainMetrics:
    """Means over the training batches of one epoch, and its speed.

    rate_weight: of the rate in the loss, at the epoch's last step: what the controller has found,
    below 0 where it wants bits; or beta; times what `rate_ramp` says.
    """

    loss: float
    distortion: float
    bits_per_symbol_estimated: float
    rate_weight: float
    images_per_second: float


@dataclass(frozen=True)
class Seconds:
    """Where a trial's time has gone so far, in seconds.

    training: steps, their images and the average of the weights. statistics: batch-norm
    statistics, and the trim of the rate. validation: of each epoch. storing: checkpoints and
    models. coding: final figures, written and decoded back.
    """

    training: float = 0.0
    statistics: float = 0.0
    validation: float = 0.0
    storing: float = 0.0
    coding: float = 0.0

    @property
    def total(self) -> float:
        return float(sum(asdict(self).values()))

    @property
    def training_share(self) -> float:
        """Of the total, that of training steps; 0 where no time has gone."""
        return self.training / self.total if self.total else 0.0


@dataclass(frozen=True)
class EpochRecord:
    """What `fit` yields after each epoch. `epoch` counts from 0, `seconds` are all so far.

    val: None if the evaluation failed, so that its figures are no data points.
    """

    epoch: int
    seconds: Seconds
    train: TrainMetrics
    val: Metrics | None

    def metrics(self) -> dict[str, float]:
        """The record's values by metric key; missing values are left out."""
        val = {} if self.val is None else keyed("val", self.val)
        return keyed("train", self.train) | val | keyed("seconds", self.seconds)


@dataclass(frozen=True)
class TrialResult:
    """The end of a trial: one checkpoint's figures on validation and on test images.

    best_epoch: the epoch whose weights these are, the best one by validation, as `fit` chooses it.
    collapsed: what is wrong with the codec, by its validation figures; None if nothing is.
    """

    best_epoch: int
    epochs: int
    seconds: Seconds
    best: Metrics
    test: Metrics
    collapsed: str | None

    def metrics(self) -> dict[str, float]:
        """The result's values by metric key; missing values are left out."""
        own = {
            "best/epoch": float(self.best_epoch),
            "train/seconds": self.seconds.total - self.seconds.coding,
        }
        figures = keyed("best", self.best) | keyed("test", self.test)
        return figures | keyed("seconds", self.seconds) | own


def keyed(split: str, metrics: Metrics | TrainMetrics | Seconds) -> dict[str, float]:
    """`{"split/field": value}` for every value that is there."""
    return {f"{split}/{key}": value for key, value in asdict(metrics).items() if value is not None}


WRITTEN = ("bpp", "bpp_standalone")
"""Figures of written streams, which no epoch has while it trains."""


def metric_keys() -> list[str]:
    """Every metric key that a trial can log."""
    evaluated = [field.name for field in fields(Metrics)]
    keys = [f"train/{field.name}" for field in fields(TrainMetrics)]
    keys += [f"seconds/{field.name}" for field in fields(Seconds)]
    keys += [f"val/{name}" for name in evaluated if name not in WRITTEN]
    keys += [f"{split}/{name}" for split in ("best", "test") for name in evaluated]
    return [*keys, "best/epoch", "train/seconds"]
