"""A trained codec as a directory: its configuration and its weights."""

from pathlib import Path

import torch

from rdmodels.checkpoint import MODEL, load, load_weights, read_config
from rdmodels.config import TrialConfig
from rdmodels.errors import ConfigError
from rdmodels.model.codec import Codec


def load_codec(directory: Path, device: torch.device | str = "cpu") -> tuple[Codec, TrialConfig]:
    """The trained codec in `directory`, in evaluation mode, and its configuration.

    Raises:
        ConfigError: if the directory holds no model, or weights that do not fit its config.json.
    """
    config = read_config(directory).config
    tensors = load(directory / MODEL).tensors
    if "mean" not in tensors:
        raise ConfigError(f"{directory / MODEL} has no normalisation statistics")
    channels = tensors["mean"].numel()
    codec = Codec(config, [0.0] * channels, [1.0] * channels)
    load_weights(codec, tensors, directory / MODEL)
    return codec.to(device).eval(), config
