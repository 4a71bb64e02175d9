"""The start of a training: fresh weights, or those of a checkpoint; and the checkpoint itself."""

import dataclasses
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from rdmodels import checkpoint
from rdmodels.config import ORIGINAL_DISTORTION_SCALE, TrialConfig
from rdmodels.data.batches import TrainingBatches, channel_statistics
from rdmodels.data.images import ImageSet
from rdmodels.data.splits import Splits
from rdmodels.errors import ConfigError
from rdmodels.model.autoencoder import ResidualBlock
from rdmodels.model.codec import Codec
from rdmodels.results.data import DataFingerprint
from rdmodels.results.trial import Metrics, Seconds
from rdmodels.training.averaging import averaged
from rdmodels.training.compiled import step_loss_of
from rdmodels.training.rate import RateState, start_rate
from rdmodels.training.step import StepLoss
from rdmodels.training.target import check_target, target_bits_per_symbol


def make_codec(config: TrialConfig, train: ImageSet) -> Codec:
    """A codec with fresh weights from `config.seed` and the statistics of the training images."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        codec = Codec(config, *channel_statistics(train))
    _initialise(codec, config)
    return codec.to(memory_format=torch.channels_last) if config.channels_last else codec


@torch.no_grad()
def _initialise(codec: Codec, config: TrialConfig) -> None:
    for module in codec.modules():
        if isinstance(module, ResidualBlock):
            scale = module.body[-1].weight
            assert isinstance(scale, Tensor)
            scale.fill_(config.residual_init)
    if config.importance_map:
        bias = codec.encoder[-1].bias
        assert isinstance(bias, Tensor)
        bias[0] += config.importance_bias


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
    optimiser = torch.optim.Adam(groups, lr=config.learning_rate, fused=True)
    for group in optimiser.param_groups:
        group["initial_lr"] = group["lr"]
    return optimiser


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """Where a training stands: epochs and steps done, the best epoch, where the time has gone.

    best_missed: whether the rate of the best epoch so far is not the one that was asked for.
    """

    epochs: int = 0
    steps: int = 0
    best_epoch: int = -1
    best_missed: bool = True
    best_loss: float = float("inf")
    seconds: Seconds = dataclasses.field(default_factory=Seconds)

    def after(
        self, epoch: int, steps: int, val: Metrics | None, seconds: Seconds, *, missed: bool
    ) -> Self:
        """The state after one more epoch; one without figures is never the best.

        The least loss decides. An epoch that has met its target replaces one that had `missed` it
        all the same: a rate above the target buys distortion, and the loss takes off but a rough
        price for that.
        """
        state = dataclasses.replace(
            self, epochs=epoch + 1, steps=self.steps + steps, seconds=seconds
        )
        met_at_last = self.best_missed and not missed
        if val is None or not (met_at_last or val.loss < self.best_loss):
            return state
        return dataclasses.replace(state, best_epoch=epoch, best_missed=missed, best_loss=val.loss)


@dataclasses.dataclass
class Training:
    """What the loop of a training works on; `rate` and `state` are replaced as it goes.

    average: the codec that is evaluated and kept, `codec` itself if weights are not averaged.
    target: bits per symbol of validation images. loss: `step_loss`, or what it was compiled to.
    """

    config: TrialConfig
    data: DataFingerprint
    codec: Codec
    average: Codec
    optimiser: torch.optim.Adam
    batches: TrainingBatches
    target: float
    rate: RateState
    state: TrainingState
    loss: StepLoss


def start_training(
    config: TrialConfig, splits: Splits, directory: Path, device: torch.device, *, resume: bool
) -> Training:
    """A training with fresh weights or, to resume, as the directory's checkpoint left it.

    Raises:
        ConfigError: if the checkpoint is damaged, or of another configuration or other images, or
            if the target rate cannot be met.
    """
    check_target(config, splits.validation)
    target = target_bits_per_symbol(config, splits.validation)
    codec = make_codec(config, splits.train).to(device)
    batches = TrainingBatches(splits.train, config, device)
    training = Training(
        config,
        splits.fingerprint,
        codec,
        averaged(codec) if config.averaging else codec,
        make_optimiser(codec, config),
        batches,
        target,
        start_rate(config.beta if config.rate_control == "hinge" else 0.0, device),
        TrainingState(),
        step_loss_of(config, device, min(config.batch_size, batches.images_per_epoch)),
    )
    if resume and (directory / checkpoint.CHECKPOINT).exists():
        restore_checkpoint(directory, training)
    return training


def save_checkpoint(directory: Path, training: Training) -> None:
    """Write all that the training needs to go on: weights, optimiser, rate, where it stands."""
    tensors = {f"model.{name}": tensor for name, tensor in training.codec.state_dict().items()}
    if training.average is not training.codec:
        averages = training.average.state_dict()
        tensors |= {f"average.{name}": tensor for name, tensor in averages.items()}
    tensors |= {f"rate.{name}": tensor for name, tensor in training.rate._asdict().items()}
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
    # More epochs are what a user resumes for, and the next machine may have no compiler; anything
    # else would be another trial.
    free = {"epochs": config.epochs, "compiled": config.compiled}
    if {**record["config"], **free} != config.model_dump(mode="json"):
        raise ConfigError(f"{path} is a checkpoint of another configuration: use a new directory")
    done = record["state"]["epochs"]
    if config.epochs <= done and config.epochs != record["config"]["epochs"]:
        raise ConfigError(
            f"epochs is {config.epochs}, but {path} has been trained for {done} of"
            f" {record['config']['epochs']}: give more than {done}, or leave it out"
        )
    changes = DataFingerprint.model_validate(record["data"]).changes_to(training.data)
    if changes is not None:
        raise ConfigError(
            f"the images of {config.dataset} have changed since {path} was written: {changes};"
            " bring them back, or train anew in another directory"
        )
    checkpoint.load_weights(training.codec, _part(tensors, "model"), path)
    if training.average is not training.codec:
        checkpoint.load_weights(training.average, _part(tensors, "average"), path)
    device = training.rate.weight.device
    rate = _part(tensors, "rate")
    training.rate = RateState(**{name: tensor.to(device) for name, tensor in rate.items()})
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in _part(tensors, "optimiser").items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = tensor
    optimiser = training.optimiser
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    for parameter, values in optimiser.state.items():
        for key, value in values.items():
            if value.shape == parameter.shape:
                # The fused step goes through memory in order: both must have one format.
                values[key] = torch.empty_like(parameter).copy_(value)
    training.state = _state(record)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix` and a dot, by the rest of their names."""
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def _state(record: dict[str, Any]) -> TrainingState:
    state = record["state"]
    return TrainingState(**{**state, "seconds": Seconds(**state["seconds"])})


def training_state(directory: Path) -> TrainingState:
    """Where the training in `directory` stands, by its checkpoint.

    Raises:
        ConfigError: if it has none, or a damaged one.
    """
    return _state(checkpoint.load(directory / checkpoint.CHECKPOINT).record)
