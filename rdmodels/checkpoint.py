"""Models and checkpoints as safetensors, each written whole or not at all.

A model is a directory with `config.json` (the TrialConfig) and `model.safetensors` (the weights,
with the normalisation statistics among them). A checkpoint adds the optimiser's state. What is
not a tensor travels as JSON in the safetensors header, so a file is consistent in itself.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rdmodels.errors import ConfigError

CONFIG = "config.json"
MODEL = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"
RECORD_KEY = "rdsweep"


class Saved(NamedTuple):
    """Tensors of a file, and the JSON record beside them."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` so that a crash leaves the old file or the new one."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, in a folder that is made if need be, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def save(path: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Write tensors and a JSON record as one safetensors file, atomically."""
    partial = path.with_name(path.name + ".partial")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, partial, metadata={RECORD_KEY: json.dumps(record)})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path) -> Saved:
    """Read what `save` wrote.

    Raises:
        ConfigError: if the file is missing, damaged, or not one of ours.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return Saved(load_file(path), json.loads(metadata[RECORD_KEY]))
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there") from None
    except (safetensors.SafetensorError, KeyError, ValueError, OSError) as error:
        raise ConfigError(f"{path} is not a file that rdsweep wrote ({error})") from error


def load_weights(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Put `tensors` into `module`.

    Raises:
        ConfigError: if names or shapes differ.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ConfigError(f"{path} does not fit its configuration ({error})") from error
