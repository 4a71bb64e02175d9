"""A trained codec ready to code: network, integer context model, and an id for its streams."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rdmodels.coding.container import (
    MODEL_ID_BYTES,
)
from rdmodels.coding.integer_context import IntegerContext, load_integer_context
from rdmodels.config import TrialConfig
from rdmodels.errors import ConfigError
from rdmodels.model.codec import Codec
from rdmodels.model.storage import load_codec

DECODER_FIELDS = (
    "width",
    "groups",
    "num_latent_channels",
    "num_centers",
    "context_features",
    "normalisation",
)


@dataclass(frozen=True)
class CodingModel:
    """Everything that coding images needs. `model_id` ties streams to it."""

    codec: Codec
    integer_context: IntegerContext
    model_id: bytes
    config: TrialConfig


def make_coding_model(
    codec: Codec, integer_context: IntegerContext, config: TrialConfig
) -> CodingModel:
    """A trained codec, in evaluation mode from here on, and its converted context model.

    Raises:
        ConfigError: if the two are not of the same sizes.
    """
    sizes = (integer_context.num_centers, integer_context.features)
    if sizes != (config.num_centers, config.context_features):
        raise ConfigError(
            f"the integer context model has {sizes[0]} centers and {sizes[1]} features, the"
            f" configuration {config.num_centers} and {config.context_features}: convert it again"
        )
    model_id = _model_id(codec, integer_context, config)
    return CodingModel(codec.eval(), integer_context, model_id, config)


def load_coding_model(directory: Path, device: torch.device | str = "cpu") -> CodingModel:
    """The model in `directory`, ready to compress and decompress.

    Raises:
        ConfigError: if the directory lacks config.json, the weights or the integer context
            model, or if they do not fit each other.
    """
    codec, config = load_codec(directory, device)
    return make_coding_model(codec, load_integer_context(directory, device), config)


def _model_id(codec: Codec, integer: IntegerContext, config: TrialConfig) -> bytes:
    fields = {name: getattr(config, name) for name in DECODER_FIELDS}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    tensors: dict[str, Tensor] = {
        "centers": codec.quantizer.centers.detach(),
        "mean": codec.mean,
        "std": codec.std,
        **{f"decoder.{name}": tensor for name, tensor in codec.decoder.state_dict().items()},
        **{f"context.{name}": tensor for name, tensor in integer.tensors().items()},
    }
    for name in sorted(tensors):
        array = tensors[name].cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.digest()[:MODEL_ID_BYTES]
