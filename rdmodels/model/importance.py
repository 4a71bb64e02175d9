"""Importance map: how many latent channels each position may use."""

import torch
from torch import Tensor


def importance_mask(z0: Tensor, num_latent_channels: int) -> Tensor:
    """The mask in [0, 1] that an importance logit spans over the latent channels.

    m = C sigmoid(z0); mask[k] = clip(m - k, 0, 1), so the first floor(m) channels pass whole, one
    passes in part (the only one with a gradient), the rest are zeroed. The map is not
    transmitted: a masked latent is a zero, coded like any other.

    Args:
        z0: (B, h, w), the encoder's extra channel.
        num_latent_channels: C.

    Returns:
        (B, C, h, w). Source: paper, section 3.3, as the released code runs it (no rounding up).
    """
    m = num_latent_channels * torch.sigmoid(z0)
    k = torch.arange(num_latent_channels, device=z0.device, dtype=m.dtype)
    return (m.unsqueeze(1) - k[:, None, None]).clamp(0.0, 1.0)
