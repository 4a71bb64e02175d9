"""Rate control: the weight of the rate in the loss, adjusted until the target is met.

weight = beta * sinh(drive), and every step moves the drive by what its rate calls for: up where
it is above the target, down where it is below. So the weight begins at 0, moves by amounts while
it is small and by factors once it is large: a codec learns to tell before it learns to be brief.
Below zero it rewards bits, which opens an importance map again that has been shut too far.

The rate of training batches is not the one that counts: the averaged weights code more cheaply,
crops differ from whole images, headers take their part. So the target of the steps is divided by
what validation last found the ratio of the two to be.
"""

from typing import NamedTuple

import torch
from torch import Tensor

STIFFNESS = 4.0
"""A rate that is off by the inverse of this moves the drive as fast as any other."""
LOWEST_DRIVE = -2.0
"""A map that is open everywhere cannot be opened further, whatever is paid for bits."""
REACH = 12.0
"""Change of the drive over a training whose rate never comes near its target."""
LARGEST_GAIN = 0.05
"""Of that, in one step."""
MEMORY = 0.05
"""Share of the newest batch in the running rate."""
TRUST = 0.7
"""Share of the newest validation in the ratio of its rate to the running one."""
LARGEST_RATIO = 2.0


class RateState(NamedTuple):
    """Where the control stands; float32 scalars on the training's device.

    weight: of the rate, negative where bits are wanted. running: bits per symbol of recent
    training batches, 0 before the first. ratio: of validation's bits per symbol to `running`.
    """

    weight: Tensor
    running: Tensor
    ratio: Tensor


def start_rate(weight: float, device: torch.device) -> RateState:
    """The state before the first step."""
    return RateState(*(torch.tensor(value, device=device) for value in (weight, 0.0, 1.0)))


def gain_of(steps: int) -> float:
    """Largest change of the drive in a step, for a training of so many."""
    return min(LARGEST_GAIN, REACH / steps)


def after_step(
    state: RateState, bits_per_symbol: Tensor, target: Tensor, gain: float, beta: float
) -> RateState:
    """The state after a step whose batch had that rate. A pure function of tensors.

    Args:
        target: bits per symbol, of validation images. gain: `gain_of` the training's steps.
        beta: scale of the weight.
    """
    error = STIFFNESS * (bits_per_symbol * state.ratio / target - 1.0)
    drive = torch.asinh(state.weight / beta) + gain * error.clamp(-1.0, 1.0)
    weight = beta * torch.sinh(drive.clamp(min=LOWEST_DRIVE))
    recent = state.running.lerp(bits_per_symbol, MEMORY)
    running = torch.where(state.running == 0.0, bits_per_symbol, recent)
    return RateState(weight, running, state.ratio)


def after_validation(state: RateState, bits_per_symbol: float) -> RateState:
    """The state after a validation that found that rate."""
    found = (bits_per_symbol / state.running).clamp(1.0 / LARGEST_RATIO, LARGEST_RATIO)
    return state._replace(ratio=state.ratio.lerp(found, TRUST))
