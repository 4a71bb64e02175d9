"""The start of a training: fresh weights, or those of a checkpoint; and the checkpoint itself."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rdmodels import checkpoint
from rdmodels.config import ORIGINAL_DISTORTION_SCALE, TrialConfig
from rdmodels.data.batches import TrainingBatches, channel_statistics
from rdmodels.data.images import ImageSet
from rdmodels.data.splits import Splits
from rdmodels.errors import ConfigError
from rdmodels.model.codec import Codec
from rdmodels.results.data import DataFingerprint
from rdmodels.results.trial import Metrics


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


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """Where a training stands: epochs done, the best of them, seconds spent."""

    epochs: int = 0
    best_epoch: int = -1
    best_loss: float = float("inf")
    seconds: float = 0.0

    def after(self, epoch: int, val: Metrics | None, seconds: float) -> "TrainingState":
        """The state after one more epoch; one without figures is never the best."""
        spent = self.seconds + seconds
        if val is not None and val.loss < self.best_loss:
            return TrainingState(epoch + 1, epoch, val.loss, spent)
        return dataclasses.replace(self, epochs=epoch + 1, seconds=spent)


@dataclasses.dataclass
class Training:
    """What the loop of a training works on; `state` is replaced after each epoch."""

    config: TrialConfig
    data: DataFingerprint
    codec: Codec
    optimiser: torch.optim.Adam
    batches: TrainingBatches
    state: TrainingState


def start_training(
    config: TrialConfig, splits: Splits, directory: Path, device: torch.device, *, resume: bool
) -> Training:
    """A training with fresh weights or, to resume, as the directory's checkpoint left it.

    Raises:
        ConfigError: if the checkpoint is damaged, or of another configuration or other images.
    """
    codec = make_codec(config, splits.train).to(device)
    if config.channels_last:
        codec = codec.to(memory_format=torch.channels_last)
    training = Training(
        config,
        splits.fingerprint,
        codec,
        make_optimiser(codec, config),
        TrainingBatches(splits.train, config, device),
        TrainingState(),
    )
    if resume and (directory / checkpoint.CHECKPOINT).exists():
        restore_checkpoint(directory, training)
    return training


def save_checkpoint(directory: Path, training: Training) -> None:
    """Write all that the training needs to go on: weights, optimiser, where it stands."""
    tensors = {f"model.{name}": tensor for name, tensor in training.codec.state_dict().items()}
    for index, state in training.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in state.items()}
    record = {
        "config": training.config.model_dump(mode="json"),
        "data": training.data.model_dump(mode="json"),
        "state": dataclasses.asdict(training.state),
    }
    checkpoint.save(directory / checkpoint.CHECKPOINT, tensors, record)


def restore_checkpoint(directory: Path, training: Training) -> None:
    """Put the checkpoint in `directory` into `training`.

    Raises:
        ConfigError: if it is damaged, or of another configuration or other images.
    """
    path = directory / checkpoint.CHECKPOINT
    tensors, record = checkpoint.load(path)
    config = training.config
    # More epochs are what a user resumes for; anything else would be another trial.
    if {**record["config"], "epochs": config.epochs} != config.model_dump(mode="json"):
        raise ConfigError(f"{path} is a checkpoint of another configuration: use a new directory")
    changes = DataFingerprint.model_validate(record["data"]).changes_to(training.data)
    if changes is not None:
        raise ConfigError(
            f"the images of {config.dataset} have changed since {path} was written: {changes};"
            " bring them back, or train anew in another directory"
        )
    prefix = "model."
    weights = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    checkpoint.load_weights(training.codec, weights, path)
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimiser = training.optimiser
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    training.state = TrainingState(**record["state"])


def training_state(directory: Path) -> TrainingState:
    """Where the training in `directory` stands, by its checkpoint.

    Raises:
        ConfigError: if it has none, or a damaged one.
    """
    return TrainingState(**checkpoint.load(directory / checkpoint.CHECKPOINT).record["state"])
