"""What changes over a training: learning rates, the weight of the rate, its target."""

import torch

from rdmodels.config import TrialConfig


def ramp(done: float, share: float) -> float:
    """How far what takes the first `share` of the steps is, `done` of all being done: 0 to 1."""
    return 1.0 if done >= share else done / share


def annealed(target: float, highest: float, done: float, share: float) -> float:
    """The target where a share `done` of the steps is done: from `highest`, linear, to its own."""
    return target + (highest - target) * (1.0 - ramp(done, share))


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
