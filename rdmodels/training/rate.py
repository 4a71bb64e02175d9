"""Rate control: the weight of the rate in the loss, adjusted until the target is met.

The weight is multiplied, after every step, by what the step's rate calls for: up where it is above
the target, down where it is below. The rate of training batches is not the one that counts: the
averaged weights code more cheaply, crops differ from whole images, headers take their part. So the
target of the steps is divided by what validation last found the ratio of the two to be.
"""

from typing import NamedTuple

import torch
from torch import Tensor

REACH = 12.0
"""Change of the weight's logarithm over a training whose rate is twice the target or more."""
LARGEST_GAIN = 0.05
"""Of that, in one step."""
MEMORY = 0.05
"""Share of the newest batch in the running rate."""
TRUST = 0.7
"""Share of the newest validation in the ratio of its rate to the running one."""
LARGEST_RATIO = 2.0


class RateState(NamedTuple):
    """Where the control stands; float32 scalars on the training's device.

    weight: of the rate. running: bits per symbol of recent training batches, 0 before the first.
    ratio: of validation's bits per symbol to `running`.
    """

    weight: Tensor
    running: Tensor
    ratio: Tensor


def start_rate(beta: float, device: torch.device) -> RateState:
    """The state before the first step: the weight is beta."""
    return RateState(*(torch.tensor(value, device=device) for value in (beta, 0.0, 1.0)))


def gain_of(steps: int) -> float:
    """Change of the weight's logarithm in a step, for a training of so many."""
    return min(LARGEST_GAIN, REACH / steps)


def after_step(
    state: RateState, bits_per_symbol: Tensor, target: Tensor, gain: float
) -> RateState:
    """The state after a step whose batch had that rate. A pure function of tensors.

    Args:
        target: bits per symbol, of validation images. gain: `gain_of` the training's steps.
    """
    error = bits_per_symbol * state.ratio / target - 1.0
    weight = state.weight * torch.exp(gain * error.clamp(-1.0, 1.0))
    recent = state.running.lerp(bits_per_symbol, MEMORY)
    running = torch.where(state.running == 0.0, bits_per_symbol, recent)
    return RateState(weight, running, state.ratio)


def after_validation(state: RateState, bits_per_symbol: float) -> RateState:
    """The state after a validation that found that rate."""
    found = (bits_per_symbol / state.running).clamp(1.0 / LARGEST_RATIO, LARGEST_RATIO)
    return state._replace(ratio=state.ratio.lerp(found, TRUST))
