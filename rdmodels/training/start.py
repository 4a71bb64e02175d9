"""The start of a training: fresh weights, or those of a checkpoint; and the checkpoint itself."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rdmodels import checkpoint
from rdmodels.config import ORIGINAL_DISTORTION_SCALE, TrialConfig
from rdmodels.data.batches import channel_statistics
from rdmodels.data.images import ImageSet
from rdmodels.errors import ConfigError
from rdmodels.model.codec import Codec
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
        spent = self.seconds + seconds
        if val is not None and val.loss < self.best_loss:
            return TrainingState(epoch + 1, epoch, val.loss, spent)
        return dataclasses.replace(self, epochs=epoch + 1, seconds=spent)


def save_checkpoint(
    directory: Path,
    codec: Codec,
    optimiser: torch.optim.Adam,
    config: TrialConfig,
    progress: TrainingState,
) -> None:
    """Write all that the training needs to go on: weights, optimiser, where it stands."""
    tensors = {f"model.{name}": tensor for name, tensor in codec.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in state.items()}
    record = {
        "config": json.loads(config.model_dump_json()),
        "progress": dataclasses.asdict(progress),
    }
    checkpoint.save(directory / checkpoint.CHECKPOINT, tensors, record)


def restore_checkpoint(
    directory: Path, codec: Codec, optimiser: torch.optim.Adam, config: TrialConfig
) -> TrainingState:
    """Put the checkpoint in `directory` into `codec` and `optimiser`; where it stood.

    Raises:
        ConfigError: if it is damaged, or of another configuration.
    """
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
    return TrainingState(**record["progress"])
