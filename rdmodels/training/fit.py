"""Training of one trial: a generator that trains and yields one record an epoch.

Nothing here is global but a flag of cuDNN's, put back after every epoch: weights are drawn, images
shuffled and augmented from the trial's own seed, and everything the training needs to go on lies
in its directory.
"""

import contextlib
import copy
import dataclasses
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from rdmodels import checkpoint
from rdmodels.coding.integer_context import INTEGER_CONTEXT
from rdmodels.config import TrialConfig
from rdmodels.data.images import ImageSet
from rdmodels.data.splits import Splits
from rdmodels.errors import EvaluationError, NonFiniteLossError
from rdmodels.model.codec import Codec
from rdmodels.results.trial import EpochRecord, Metrics, Seconds, TrainMetrics
from rdmodels.training.averaging import update_average
from rdmodels.training.evaluation import evaluate
from rdmodels.training.rate import after_step, after_validation, gain_of
from rdmodels.training.schedule import annealed, ramp, scale_learning_rates
from rdmodels.training.start import Training, save_checkpoint, start_training
from rdmodels.training.statistics import reestimate_batch_norm
from rdmodels.training.step import step_options, train_step
from rdmodels.training.trim import LARGEST_SHIFT, trim_rate, trims

logger = logging.getLogger(__name__)

MET = 0.02
"""Of the target: a rate this close has met it."""


def fit(
    config: TrialConfig,
    splits: Splits,
    directory: Path,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
) -> Iterator[EpochRecord]:
    """Train `config` in `directory`, yielding a record after each epoch.

    After every epoch the directory holds `checkpoint.safetensors`, to resume from, and
    `model.safetensors`, the weights of the epoch with the least validation loss; under the
    controller, the first one that meets its target replaces any that did not. Whoever iterates
    logs, reports and stops; `finish` gives the final figures.

    Args:
        resume: go on from the directory's checkpoint; the records continue after its epoch.

    Raises:
        NonFiniteLossError: if the loss of an epoch is not finite.
        EvaluationError: if no validation has given figures that can be data points.
        ConfigError: if `resume` meets a checkpoint of another configuration or other images, the
            target rate cannot be met, or steps are to be compiled and cannot be.
    """
    directory.mkdir(parents=True, exist_ok=True)
    training = start_training(config, splits, directory, torch.device(device), resume=resume)
    # Not before: a checkpoint of another configuration must leave the directory as it is.
    checkpoint.write_config(directory, config, training.data)
    reason = "no epoch was left to train"
    for epoch in range(training.state.epochs, config.epochs):
        with reproducible():
            record, failure = _run_epoch(training, splits, directory, epoch)
        reason = failure or reason
        yield record
    if training.state.best_epoch < 0:
        raise EvaluationError(
            f"none of {config.epochs} epochs gave a validation whose figures can be data points;"
            f" the last one: {reason}"
        )


@contextlib.contextmanager
def reproducible() -> Iterator[None]:
    """Inside, cuDNN adds in a fixed order, by algorithms that are not chosen by timing.

    Else no training on a GPU would give its weights twice, resumed or not.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def _run_epoch(
    training: Training, splits: Splits, directory: Path, epoch: int
) -> tuple[EpochRecord, str | None]:
    """Train, validate and store one epoch: its record, and why it has no figures, if so."""
    config = training.config
    clock = Clock(training.state.seconds)
    train = _train_epoch(training, epoch)
    clock.lap("training")
    kept = _settle(training, splits, epoch)
    clock.lap("statistics")
    val, failure = _validate(kept, splits.validation, config)
    if failure is not None:
        # Early epochs may fail where later ones do not; such an epoch is never the best.
        logger.warning("epoch %d: %s", epoch, failure)
    elif val is not None and kept is training.average and config.rate_control == "controller":
        training.rate = after_validation(training.rate, val.bits_per_symbol_estimated)
    clock.lap("validation")
    state = training.state.after(
        epoch, len(training.batches), val, clock.seconds, missed=_missed(config, val)
    )
    training.state = state
    if state.best_epoch == epoch:
        _save_best(directory, kept, epoch, val)
    save_checkpoint(directory, training)
    clock.lap("storing")
    # The checkpoint has all but the time that writing it took.
    training.state = dataclasses.replace(state, seconds=clock.seconds)
    return EpochRecord(epoch, clock.seconds, train, val), failure


class Clock:
    """Adds up where the time goes: `lap` gives what has passed since the last one a name."""

    def __init__(self, seconds: Seconds) -> None:
        self.seconds = seconds
        self.started = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap, or since the clock was made, was for `name`."""
        now = time.perf_counter()
        spent = getattr(self.seconds, name) + now - self.started
        self.seconds = dataclasses.replace(self.seconds, **{name: spent})
        self.started = now


def _settle(training: Training, splits: Splits, epoch: int) -> Codec:
    """The codec of this epoch, ready to be evaluated: its statistics and, at the end, its rate.

    It is the training's own average but for the trimmed one, a copy: a training that goes on for
    more epochs knows nothing of the trim.
    """
    config, codec = training.config, training.average
    if config.normalisation == "batch":
        reestimate_batch_norm(codec, training.batches, epoch)
    if epoch < config.epochs - 1 or not trims(config):
        return codec
    codec = copy.deepcopy(codec)
    shift = trim_rate(codec, splits, config)
    logger.info("the importance map was shifted by %.3f to meet the target", shift)
    if abs(shift) == LARGEST_SHIFT:
        logger.warning("the target is out of the trim's reach: it stopped at %+g", shift)
    if config.normalisation == "batch":
        # The decoder sees other latents now.
        reestimate_batch_norm(codec, training.batches, epoch)
    return codec


def _missed(config: TrialConfig, val: Metrics | None) -> bool:
    """Whether the controller, which is there to meet the target, has not met it in an epoch."""
    if val is None or config.rate_control == "hinge":
        return False
    return abs(val.rate_over_target - 1.0) > MET


def _validate(
    codec: Codec, images: ImageSet, config: TrialConfig
) -> tuple[Metrics | None, str | None]:
    """The figures, or why there are none."""
    structural = config.distortion == "ms_ssim"
    try:
        return evaluate(codec, images, config, structural=structural).metrics, None
    except EvaluationError as error:
        return None, str(error)


def _save_best(directory: Path, codec: Codec, epoch: int, val: Metrics | None) -> None:
    assert val is not None
    # New weights: what was converted from the old ones is void.
    (directory / INTEGER_CONTEXT).unlink(missing_ok=True)
    record = {"epoch": epoch, "val": dataclasses.asdict(val)}
    checkpoint.save(directory / checkpoint.MODEL, codec.state_dict(), record)


def _train_epoch(training: Training, epoch: int) -> TrainMetrics:
    started = time.perf_counter()
    config, batches, device = training.config, training.batches, training.batches.device
    training.codec.train()
    options = step_options(config)
    steps, first = config.epochs * len(batches), training.state.steps
    gain, highest = gain_of(steps), config.bits_per_raw_symbol
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for step, x in enumerate(batches.epoch(epoch), first):
        scale_learning_rates(training.optimiser, config, step / steps)
        weight = training.rate.weight * ramp(step / steps, config.rate_ramp)
        aim = annealed(training.target, highest, step / steps, config.target_anneal)
        target = torch.full((), aim, device=device)
        figures = train_step(
            training.codec, training.optimiser, x, weight, target, options, training.loss
        )
        if config.rate_control == "controller":
            training.rate = after_step(training.rate, figures[2], target, gain, config.beta)
        if config.averaging:
            update_average(training.average, training.codec, step, config.averaging)
        sums += figures.double() * len(x)
    loss, distortion, bits_per_symbol = (sums / batches.images_per_epoch).tolist()
    if not (math.isfinite(loss) and math.isfinite(bits_per_symbol)):
        raise NonFiniteLossError(
            f"the training loss of epoch {epoch} is {loss}: lower learning_rate"
            f" ({config.learning_rate:g}) or beta ({config.beta:g})"
        )
    seconds = time.perf_counter() - started
    return TrainMetrics(
        loss,
        distortion,
        bits_per_symbol,
        float(weight),
        batches.images_per_epoch / seconds,
    )
