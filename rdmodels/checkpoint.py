"""Models and checkpoints as safetensors, each written whole or not at all.

A model is a directory with `config.json` (the TrialConfig, and the fingerprint of the images) and
`model.safetensors` (the weights, with the normalisation statistics among them). A checkpoint adds
the optimiser's state. What is not a tensor travels as JSON in the safetensors header, so a file is
consistent in itself. Each file says the version of its format, and no other one is read.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rdmodels.config import TrialConfig, make_trial
from rdmodels.errors import ConfigError
from rdmodels.results.data import DataFingerprint
from rdmodels.validation import validate

CONFIG = "config.json"
MODEL = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"
RECORD_KEY = "rdsweep"
VERSION_KEY = "version"
VERSION = 2
"""Of the files of a model."""


class Saved(NamedTuple):
    """Tensors of a file, and the JSON record beside them."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]


class StoredConfig(NamedTuple):
    """What `config.json` says: a trial's configuration, and the images it was trained on."""

    config: TrialConfig
    data: DataFingerprint


def write_config(directory: Path, config: TrialConfig, data: DataFingerprint) -> None:
    """Write `config.json` into the directory of a model."""
    values = {
        VERSION_KEY: VERSION,
        "trial": config.model_dump(mode="json"),
        "data": data.model_dump(mode="json"),
    }
    write_text(directory / CONFIG, json.dumps(values, indent=2) + "\n")


def read_config(directory: Path) -> StoredConfig:
    """What the `config.json` in the directory of a model says.

    Raises:
        ConfigError: if the file is missing, is no JSON, of another version, or holds no valid
            configuration.
    """
    path = directory / CONFIG
    try:
        values = json.loads(path.read_text())
    except OSError:
        raise ConfigError(f"{path} is not there: is this the directory of a model?") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(values, dict) or "data" not in values or "trial" not in values:
        _check_version(path, values.get(VERSION_KEY) if isinstance(values, dict) else None)
        raise ConfigError(f"{path} is not a file that rdsweep wrote: it lacks trial or data")
    _check_version(path, values.get(VERSION_KEY))
    data = validate(DataFingerprint, values["data"], where=f"{path}: data")
    return StoredConfig(make_trial(values["trial"]), data)


def _check_version(path: Path, found: Any) -> None:
    if found != VERSION:
        raise ConfigError(
            f"{path} has version {'1' if found is None else found}, this program reads {VERSION}:"
            " train the model again"
        )


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
    save_file(plain, partial, metadata={VERSION_KEY: str(VERSION), RECORD_KEY: json.dumps(record)})
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
        saved = Saved(load_file(path), json.loads(metadata[RECORD_KEY]))
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there") from None
    except (safetensors.SafetensorError, KeyError, ValueError, OSError) as error:
        raise ConfigError(f"{path} is not a file that rdsweep wrote ({error})") from error
    _check_version(path, int(metadata.get(VERSION_KEY, 1)))
    return saved


def load_weights(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Put `tensors` into `module`.

    Raises:
        ConfigError: if names or shapes differ.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ConfigError(f"{path} does not fit its configuration ({error})") from error
