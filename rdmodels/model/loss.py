"""The joint rate-distortion loss."""

from typing import NamedTuple

import torch
from torch import Tensor

from rdmodels.config import Distortion
from rdmodels.metrics import ms_ssim, mse
from rdmodels.model.codec import CodecOutput


class Loss(NamedTuple):
    """Scalars of one batch. `total` is what the paper minimises; `objective` is for backward().

    distortion: MSE on [0, 1], or 1 - MS-SSIM. bits_per_symbol: mean cost of a symbol.
    """

    objective: Tensor
    total: Tensor
    distortion: Tensor
    bits_per_symbol: Tensor


def rate_distortion_loss(
    x: Tensor, out: CodecOutput, beta: Tensor, h_target: Tensor, distortion: Distortion
) -> Loss:
    """The loss of one batch; `total` as `total_loss` has it.

    H_real is the mean of `out.bits`, H_mask that of `out.bits * out.importance`: only through the
    latter does the encoder feel the rate. The context model has an unclamped cross-entropy of its
    own instead of its share in the clamped term: it would otherwise stop learning as soon as the
    rate is under the target, and its estimate would go stale while the encoder moves on. Its
    weight is 1, in bits, whatever beta is; the released code trains it by beta times the clamped
    term.

    The L2 terms of the released code are the optimiser's, in `rdmodels.training.start`.

    Args:
        x: images (B, channels, H, W) in [0, 1]. beta, h_target: scalars.
    """
    d = image_distortion(x, out.x_hat, distortion)
    bits = out.bits.detach()
    h_real = bits.mean()
    total = total_loss(d, h_real, (bits * out.importance).mean(), beta, h_target)
    return Loss(total + out.bits.mean(), total.detach(), d.detach(), h_real)


def total_loss(
    distortion: Tensor, h_real: Tensor, h_mask: Tensor, beta: Tensor, h_target: Tensor
) -> Tensor:
    """d + beta max(H_soft - h_target, 0), H_soft = (H_real + H_mask) / 2; bits per symbol.

    Source: paper, equations 7 to 9.
    """
    h_soft = (h_real + h_mask) / 2
    return distortion + beta * (h_soft - h_target).clamp(min=0.0)


def image_distortion(x: Tensor, x_hat: Tensor, distortion: Distortion) -> Tensor:
    """MSE on [0, 1], or 1 - MS-SSIM, averaged over the images of a batch of one size."""
    if distortion == "ms_ssim":
        return 1.0 - ms_ssim(x_hat, x).mean()
    return torch.mean(mse(x_hat, x))
