"""One step of training."""

import torch
from torch import Tensor

from rdmodels.config import TrialConfig
from rdmodels.model.codec import Codec
from rdmodels.model.loss import rate_distortion_loss


def train_step(
    codec: Codec, optimiser: torch.optim.Adam, x: Tensor, config: TrialConfig
) -> Tensor:
    """One update on batch `x`; returns float64 (loss, distortion, bits per symbol) on its device.

    Nothing waits for the device here: the values are read once an epoch.
    """
    if config.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        out = codec(x)
    loss = rate_distortion_loss(x, out, config)
    optimiser.zero_grad(set_to_none=True)
    loss.objective.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return torch.stack([loss.total, loss.distortion, loss.bits_per_symbol]).double()
