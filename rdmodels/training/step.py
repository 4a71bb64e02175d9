"""One step of training.

`step_loss` is a pure function of tensors: weights by name, a batch, the weight of the rate and its
target. Nothing in it looks at a value, so it can be mapped over stacked weights, rates and targets
of many trials.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from rdmodels.config import Distortion, RateControl, TrialConfig
from rdmodels.model.codec import Codec
from rdmodels.model.loss import image_distortion, rate_distortion_loss


class StepOptions(NamedTuple):
    """What a step's code depends on, beside the shapes: the same for all trials it is run for."""

    distortion: Distortion
    rate_control: RateControl
    context_share: float
    gradient_clip: float | None
    mixed_precision: bool


def step_options(config: TrialConfig) -> StepOptions:
    """The options that `config` asks for."""
    return StepOptions(
        config.distortion,
        config.rate_control,
        config.context_share,
        config.gradient_clip,
        config.precision == "bf16",
    )


def step_loss(
    codec: Codec,
    tensors: Mapping[str, Tensor],
    x: Tensor,
    weight: Tensor,
    h_target: Tensor,
    options: StepOptions,
) -> tuple[Tensor, Tensor]:
    """What a step minimises, and float32 (loss, distortion, bits per symbol) to be logged.

    Args:
        codec: gives the structure; its own tensors are used where `tensors` has none.
        tensors: parameters and buffers by their names in `codec`. Batch norm updates its running
            statistics among them.
        x: images (B, channels, H, W) in [0, 1].
        weight, h_target: scalars, of `rdmodels.model.loss.rate_distortion_loss`.
    """
    rated = math.ceil(options.context_share * len(x))
    with torch.autocast(x.device.type, torch.bfloat16, enabled=options.mixed_precision):
        out = functional_call(codec, dict(tensors), (x, rated))
    distortion = image_distortion(x, out.x_hat, options.distortion)
    loss = rate_distortion_loss(
        distortion, out.bits, out.importance[:rated], weight, h_target, options.rate_control
    )
    return loss.objective, torch.stack([loss.total, loss.distortion, loss.bits_per_symbol])


StepLoss = Callable[..., tuple[Tensor, Tensor]]
"""`step_loss`, or what does the same."""


def train_step(
    codec: Codec,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    weight: Tensor,
    h_target: Tensor,
    options: StepOptions,
    loss: StepLoss = step_loss,
) -> Tensor:
    """One update of `codec` on batch `x`; returns the figures of `loss`, on its device.

    Nothing waits for the device here: the values are read once an epoch.
    """
    objective, figures = loss(codec, {}, x, weight, h_target, options)
    optimiser.zero_grad(set_to_none=True)
    objective.backward()  # type: ignore[no-untyped-call]
    if options.gradient_clip is not None:
        # Not the context model's: its gradient is of other units, bits.
        parts = (codec.encoder, codec.decoder, codec.quantizer)
        parameters = [parameter for part in parts for parameter in part.parameters()]
        torch.nn.utils.clip_grad_norm_(parameters, options.gradient_clip)
    optimiser.step()
    return figures
