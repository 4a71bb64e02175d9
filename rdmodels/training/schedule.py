"""What changes over a training: the learning rates, and the ramp of the rate's weight."""

import torch

from rdmodels.config import TrialConfig


def ramp(done: float, share: float) -> float:
    """Factor of the rate's weight where a share `done` of the steps is done: 0 to 1, then 1."""
    return 1.0 if done >= share else done / share


def decayed(done: float, share: float) -> float:
    """Factor of the learning rates: 1, then linear to 0 over the last `share` of the steps."""
    return 1.0 if share == 0 else min(1.0, (1.0 - done) / share)


def scale_learning_rates(
    optimiser: torch.optim.Optimizer, config: TrialConfig, done: float
) -> None:
    """Give each group of `optimiser` its learning rate where a share `done` is done.

    A group's `initial_lr` is what it starts with.
    """
    factor = decayed(done, config.learning_rate_decay)
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * factor
