"""Where a model runs."""

import torch

from rdmodels.errors import ConfigError


def pick_device(name: str) -> str:
    """A torch device from cpu, cuda or auto.

    Raises:
        ConfigError: if it is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"--device must be cpu, cuda or auto, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no GPU here, use --device cpu")
    return name
