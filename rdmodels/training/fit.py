"""Training of one trial: a generator that trains and yields one record an epoch.

Nothing here is global: weights are drawn, images shuffled and augmented from the trial's own seed,
and everything the training needs to go on lies in its directory.
"""

import dataclasses
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from rdmodels import checkpoint
from rdmodels.coding.integer_context import INTEGER_CONTEXT
from rdmodels.config import TrialConfig
from rdmodels.data.batches import TrainingBatches
from rdmodels.data.images import ImageSet
from rdmodels.data.splits import Splits
from rdmodels.errors import EvaluationError, NonFiniteLossError
from rdmodels.model.codec import Codec
from rdmodels.results.trial import EpochRecord, Metrics, TrainMetrics
from rdmodels.training.evaluation import evaluate
from rdmodels.training.start import (
    TrainingState,
    make_codec,
    make_optimiser,
    restore_checkpoint,
    save_checkpoint,
)
from rdmodels.training.statistics import reestimate_batch_norm
from rdmodels.training.step import train_step

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
        ConfigError: if `resume` meets a checkpoint of another configuration.
    """
    device = torch.device(device)
    directory.mkdir(parents=True, exist_ok=True)
    codec = make_codec(config, splits.train).to(device)
    if config.channels_last:
        codec = codec.to(memory_format=torch.channels_last)
    optimiser = make_optimiser(codec, config)
    batches = TrainingBatches(splits.train, config, device)
    progress = TrainingState()
    if resume and (directory / checkpoint.CHECKPOINT).exists():
        progress = restore_checkpoint(directory, codec, optimiser, config)
    # Not before: a checkpoint of another configuration must leave the directory as it is.
    checkpoint.write_text(directory / checkpoint.CONFIG, config.model_dump_json(indent=2) + "\n")
    for epoch in range(progress.epochs, config.epochs):
        started = time.perf_counter()
        train = _train_epoch(codec, optimiser, batches, config, epoch)
        if config.normalisation == "batch":
            reestimate_batch_norm(codec, batches, epoch)
        val = _validate(codec, splits.validation, config)
        progress = progress.after(epoch, val, time.perf_counter() - started)
        if val is not None and progress.best_epoch == epoch:
            record = {"epoch": epoch, "val": dataclasses.asdict(val)}
            # New weights: what was converted from the old ones is void.
            (directory / INTEGER_CONTEXT).unlink(missing_ok=True)
            checkpoint.save(directory / checkpoint.MODEL, codec.state_dict(), record)
        save_checkpoint(directory, codec, optimiser, config, progress)
        yield EpochRecord(epoch, time.perf_counter() - started, train, val)
    if progress.best_epoch < 0:
        raise EvaluationError(
            f"none of {config.epochs} epochs gave a validation whose figures can be data points:"
            " the log has the reasons"
        )


def _validate(codec: Codec, images: ImageSet, config: TrialConfig) -> Metrics | None:
    try:
        return evaluate(codec, images, config).metrics
    except EvaluationError as error:
        # Early epochs may fail where later ones do not; such an epoch is never the best.
        logger.warning("%s", error)
        return None


def _train_epoch(
    codec: Codec,
    optimiser: torch.optim.Adam,
    batches: TrainingBatches,
    config: TrialConfig,
    epoch: int,
) -> TrainMetrics:
    started = time.perf_counter()
    codec.train()
    sums = torch.zeros(3, dtype=torch.float64, device=batches.device)
    for x in batches.epoch(epoch):
        sums += train_step(codec, optimiser, x, config) * len(x)
    loss, distortion, bits_per_symbol = (sums / batches.images_per_epoch).tolist()
    if not all(map(_is_finite, (loss, bits_per_symbol))):
        raise NonFiniteLossError(
            f"the training loss of epoch {epoch} is {loss}: lower learning_rate"
            f" ({config.learning_rate:g}) or beta ({config.beta:g})"
        )
    seconds = time.perf_counter() - started
    return TrainMetrics(loss, distortion, bits_per_symbol, batches.images_per_epoch / seconds)


def _is_finite(value: float) -> bool:
    return value - value == 0
