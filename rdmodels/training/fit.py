"""Training of one trial: a generator that trains and yields one record an epoch.

Nothing here is global: weights are drawn, images shuffled and augmented from the trial's own seed,
and everything the training needs to go on lies in its directory.
"""

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
from rdmodels.results.trial import EpochRecord, Metrics, TrainMetrics
from rdmodels.training.evaluation import evaluate
from rdmodels.training.start import Training, save_checkpoint, start_training
from rdmodels.training.statistics import reestimate_batch_norm
from rdmodels.training.step import step_options, train_step

logger = logging.getLogger(__name__)


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
    `model.safetensors`, the weights of the epoch with the least validation loss. Whoever iterates
    logs, reports and stops; `finish` gives the final figures.

    Args:
        resume: go on from the directory's checkpoint; the records continue after its epoch.

    Raises:
        NonFiniteLossError: if the loss of an epoch is not finite.
        EvaluationError: if no validation has given figures that can be data points.
        ConfigError: if `resume` meets a checkpoint of another configuration or other images.
    """
    directory.mkdir(parents=True, exist_ok=True)
    training = start_training(config, splits, directory, torch.device(device), resume=resume)
    # Not before: a checkpoint of another configuration must leave the directory as it is.
    checkpoint.write_config(directory, config, training.data)
    reason = "no epoch was left to train"
    for epoch in range(training.state.epochs, config.epochs):
        started = time.perf_counter()
        train = _train_epoch(training, epoch)
        if config.normalisation == "batch":
            reestimate_batch_norm(training.codec, training.batches, epoch)
        val, failure = _validate(training.codec, splits.validation, config)
        if failure is not None:
            # Early epochs may fail where later ones do not; such an epoch is never the best.
            logger.warning("epoch %d: %s", epoch, failure)
            reason = failure
        training.state = training.state.after(epoch, val, time.perf_counter() - started)
        if training.state.best_epoch == epoch:
            _save_best(directory, training.codec, epoch, val)
        save_checkpoint(directory, training)
        yield EpochRecord(epoch, time.perf_counter() - started, train, val)
    if training.state.best_epoch < 0:
        raise EvaluationError(
            f"none of {config.epochs} epochs gave a validation whose figures can be data points;"
            f" the last one: {reason}"
        )


def _validate(
    codec: Codec, images: ImageSet, config: TrialConfig
) -> tuple[Metrics | None, str | None]:
    """The figures, or why there are none."""
    try:
        return evaluate(codec, images, config).metrics, None
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
    config, batches = training.config, training.batches
    training.codec.train()
    options = step_options(config)
    beta = torch.tensor(config.beta, device=batches.device)
    h_target = torch.tensor(config.h_target, device=batches.device)
    sums = torch.zeros(3, dtype=torch.float64, device=batches.device)
    for x in batches.epoch(epoch):
        figures = train_step(training.codec, training.optimiser, x, beta, h_target, options)
        sums += figures.double() * len(x)
    loss, distortion, bits_per_symbol = (sums / batches.images_per_epoch).tolist()
    if not (math.isfinite(loss) and math.isfinite(bits_per_symbol)):
        raise NonFiniteLossError(
            f"the training loss of epoch {epoch} is {loss}: lower learning_rate"
            f" ({config.learning_rate:g}) or beta ({config.beta:g})"
        )
    seconds = time.perf_counter() - started
    return TrainMetrics(loss, distortion, bits_per_symbol, batches.images_per_epoch / seconds)
