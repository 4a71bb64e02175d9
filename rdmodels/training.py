"""Training of one trial: a generator that trains and yields one record an epoch.

Nothing here is global: weights are drawn, images shuffled and augmented from the trial's own seed,
and everything the training needs to go on lies in its directory.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rdmodels import checkpoint
from rdmodels.bitstream import CodingModel, load_coding_model, make_coding_model
from rdmodels.codec import Codec
from rdmodels.config import ORIGINAL_DISTORTION_SCALE, ConfigError, TrialConfig
from rdmodels.conversion import calibration_symbols, convert_context
from rdmodels.data import ImageSet, Splits, TrainingBatches, channel_statistics
from rdmodels.evaluation import EvaluationError, evaluate, evaluate_coded, write_images
from rdmodels.integer_context import INTEGER_CONTEXT, save_integer_context
from rdmodels.loss import rate_distortion_loss
from rdmodels.results import EpochRecord, Metrics, TrainMetrics, TrialResult

logger = logging.getLogger(__name__)

REESTIMATION_BATCHES = 16
TEST_IMAGES = "test.parquet"


class NonFiniteLossError(RuntimeError):
    """The training loss is no longer a number."""


def make_codec(config: TrialConfig, train: ImageSet) -> Codec:
    """A codec with fresh weights from `config.seed` and the statistics of the training images."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return Codec(config, *channel_statistics(train))


def make_optimiser(codec: Codec, config: TrialConfig) -> torch.optim.Adam:
    """Adam with the L2 terms of the released code, brought to our distortion's scale."""
    scale = ORIGINAL_DISTORTION_SCALE[config.distortion]
    convolutions = [
        module.weight
        for part in (codec.encoder, codec.decoder)
        for module in part.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    decayed = {id(parameter) for parameter in convolutions}
    others = [
        parameter
        for part in (codec.encoder, codec.decoder)
        for parameter in part.parameters()
        if id(parameter) not in decayed
    ]
    centers = list(codec.quantizer.parameters())
    context = list(codec.context.parameters())
    groups: list[dict[str, Any]] = [
        {"params": convolutions, "weight_decay": config.weight_decay / scale},
        {"params": others},
        {"params": centers, "weight_decay": config.centers_decay / scale},
        {"params": context, "lr": config.context_learning_rate},
    ]
    return torch.optim.Adam(groups, lr=config.learning_rate, fused=True)


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
    progress = _Progress()
    if resume and (directory / checkpoint.CHECKPOINT).exists():
        progress = _restore(directory, codec, optimiser, config)
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
        _save(directory, codec, optimiser, config, progress)
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


def finish(directory: Path, splits: Splits, *, device: torch.device | str = "cpu") -> TrialResult:
    """Final figures of the training in `directory`: its best weights on validation and test.

    The weights become a codec: the context model is converted to integers, every image is written
    as bytes and decoded back, and rate and quality are those of the bytes. This is the only place
    where test images are looked at; their per-image table is `test.parquet`.

    Raises:
        EvaluationError: if the figures cannot be data points, or a stream does not come back.
        ConfigError: if the directory holds no training.
    """
    model = coding_model(directory, splits.train, device)
    saved = checkpoint.load(directory / checkpoint.CHECKPOINT).record
    progress = _Progress(**saved["progress"])
    best = evaluate_coded(model, splits.validation)
    test = evaluate_coded(model, splits.test)
    write_images(directory / TEST_IMAGES, test.images)
    return TrialResult(
        best_epoch=progress.best_epoch,
        epochs=progress.epochs,
        train_seconds=progress.seconds,
        best=best.metrics,
        test=test.metrics,
    )


def coding_model(
    directory: Path, train: ImageSet, device: torch.device | str = "cpu"
) -> CodingModel:
    """The model in `directory`, ready to code, its context model converted to integers.

    The conversion, calibrated on training images, is stored beside the weights and never done
    twice: on another machine it might give other integers, and the streams so far be lost.
    """
    if (directory / INTEGER_CONTEXT).exists():
        return load_coding_model(directory, device)
    codec, config = checkpoint.load_codec(directory, device)
    integer = convert_context(codec, calibration_symbols(codec, train))
    save_integer_context(directory, integer)
    return make_coding_model(codec, integer, config)


@dataclasses.dataclass(frozen=True)
class _Progress:
    epochs: int = 0
    best_epoch: int = -1
    best_loss: float = float("inf")
    seconds: float = 0.0

    def after(self, epoch: int, val: Metrics | None, seconds: float) -> "_Progress":
        spent = self.seconds + seconds
        if val is not None and val.loss < self.best_loss:
            return _Progress(epoch + 1, epoch, val.loss, spent)
        return dataclasses.replace(self, epochs=epoch + 1, seconds=spent)


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


def train_step(
    codec: Codec, optimiser: torch.optim.Adam, x: Tensor, config: TrialConfig
) -> Tensor:
    """One update on batch `x`; returns float64 (loss, distortion, bits per symbol) on its device.

    Nothing waits for the device here: the values are read once an epoch.
    """
    if config.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        out = codec(x)
    loss = rate_distortion_loss(x, out, config)
    optimiser.zero_grad(set_to_none=True)
    loss.objective.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return torch.stack([loss.total, loss.distortion, loss.bits_per_symbol]).double()


@torch.no_grad()
def reestimate_batch_norm(codec: Codec, batches: TrainingBatches, epoch: int) -> None:
    """Replace running batch-norm statistics by plain averages under the current weights.

    The running ones lag behind the quantizer, which can send the rate of an evaluation far above
    raw coding.
    """
    norms = [module for module in codec.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    codec.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    for _, x in zip(range(REESTIMATION_BATCHES), batches.epoch(epoch), strict=False):
        (y_hat, _), _ = codec.encode(x)
        codec.decode(y_hat, (x.shape[-2], x.shape[-1]))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _is_finite(value: float) -> bool:
    return value - value == 0


def _save(
    directory: Path,
    codec: Codec,
    optimiser: torch.optim.Adam,
    config: TrialConfig,
    progress: _Progress,
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in codec.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in state.items()}
    record = {
        "config": json.loads(config.model_dump_json()),
        "progress": dataclasses.asdict(progress),
    }
    checkpoint.save(directory / checkpoint.CHECKPOINT, tensors, record)


def _restore(
    directory: Path, codec: Codec, optimiser: torch.optim.Adam, config: TrialConfig
) -> _Progress:
    path = directory / checkpoint.CHECKPOINT
    tensors, record = checkpoint.load(path)
    # More epochs are what a user resumes for; anything else would be another trial.
    if {**record["config"], "epochs": config.epochs} != json.loads(config.model_dump_json()):
        raise ConfigError(f"{path} is a checkpoint of another configuration: use a new directory")
    prefix = "model."
    weights = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    checkpoint.load_weights(codec, weights, path)
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return _Progress(**record["progress"])
