"""One step of training.

`step_loss` is a pure function of tensors: weights by name, a batch, beta and h_target. Nothing in
it looks at a value, so it can be mapped over stacked weights, betas and targets of many trials.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from rdmodels.config import Distortion, TrialConfig
from rdmodels.model.codec import Codec
from rdmodels.model.loss import rate_distortion_loss


class StepOptions(NamedTuple):
    """What a step's code depends on, beside the shapes: the same for all trials it is run for."""

    distortion: Distortion
    mixed_precision: bool
    channels_last: bool


def step_options(config: TrialConfig) -> StepOptions:
    """The options that `config` asks for."""
    return StepOptions(config.distortion, config.precision == "bf16", config.channels_last)


def step_loss(
    codec: Codec,
    tensors: Mapping[str, Tensor],
    x: Tensor,
    beta: Tensor,
    h_target: Tensor,
    options: StepOptions,
) -> tuple[Tensor, Tensor]:
    """What a step minimises, and float32 (loss, distortion, bits per symbol) to be logged.

    Args:
        codec: gives the structure; its own tensors are used where `tensors` has none.
        tensors: parameters and buffers by their names in `codec`. Batch norm updates its running
            statistics among them.
        x: images (B, channels, H, W) in [0, 1]. beta, h_target: scalars.
    """
    if options.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=options.mixed_precision):
        out = functional_call(codec, dict(tensors), (x,))
    loss = rate_distortion_loss(x, out, beta, h_target, options.distortion)
    return loss.objective, torch.stack([loss.total, loss.distortion, loss.bits_per_symbol])


def train_step(
    codec: Codec,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    beta: Tensor,
    h_target: Tensor,
    options: StepOptions,
) -> Tensor:
    """One update of `codec` on batch `x`; returns the figures of `step_loss`, on its device.

    Nothing waits for the device here: the values are read once an epoch.
    """
    objective, figures = step_loss(codec, {}, x, beta, h_target, options)
    optimiser.zero_grad(set_to_none=True)
    objective.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return figures
