"""The joint rate-distortion loss."""

from typing import NamedTuple

import torch
from torch import Tensor

from rdmodels.config import Distortion, RateControl
from rdmodels.metrics import ms_ssim, mse


class Loss(NamedTuple):
    """Scalars of one batch. `total` is what the encoder and the decoder minimise; `objective` is
    for backward().

    distortion: MSE on [0, 1], or 1 - MS-SSIM. bits_per_symbol: mean cost of a symbol.
    """

    objective: Tensor
    total: Tensor
    distortion: Tensor
    bits_per_symbol: Tensor


def rate_distortion_loss(
    distortion: Tensor,
    bits: Tensor,
    importance: Tensor,
    weight: Tensor,
    h_target: Tensor,
    control: RateControl,
) -> Loss:
    """The loss of one batch: `hinge_loss`, or `weighted_loss` where a controller sets the weight.

    H_real is the mean of `bits`, H_mask that of `bits * importance`: only through the latter does
    the encoder feel the rate. The context model has an unclamped cross-entropy of its own instead
    of its share in these terms: under the hinge it would otherwise stop learning as soon as the
    rate is below the target, and its estimate would go stale while the encoder moves on. Its
    weight is 1, in bits, whatever the rate's is; the released code trains it by beta times the
    clamped term.

    The L2 terms of the released code are the optimiser's, in `rdmodels.training.start`.

    Args:
        distortion: scalar, of the whole batch. bits, importance: (B', C, h, w) of the images
            whose rate is computed. weight, h_target: scalars.
    """
    detached = bits.detach()
    h_real, h_mask = detached.mean(), (detached * importance).mean()
    if control == "hinge":
        total = hinge_loss(distortion, h_real, h_mask, weight, h_target)
    else:
        total = weighted_loss(distortion, h_mask, weight)
    return Loss(total + bits.mean(), total.detach(), distortion.detach(), h_real)


def hinge_loss(
    distortion: Tensor, h_real: Tensor, h_mask: Tensor, beta: Tensor, h_target: Tensor
) -> Tensor:
    """d + beta max(H_soft - h_target, 0), H_soft = (H_real + H_mask) / 2; bits per symbol.

    Source: paper, equations 7 to 9.
    """
    h_soft = (h_real + h_mask) / 2
    return distortion + beta * (h_soft - h_target).clamp(min=0.0)


def weighted_loss(distortion: Tensor, h_mask: Tensor, weight: Tensor) -> Tensor:
    """d + weight H_mask / 2: the hinge's gradient above its target, at any rate."""
    return distortion + weight * h_mask / 2


def image_distortion(x: Tensor, x_hat: Tensor, distortion: Distortion) -> Tensor:
    """MSE on [0, 1], or 1 - MS-SSIM, averaged over the images of a batch of one size."""
    if distortion == "ms_ssim":
        return 1.0 - ms_ssim(x_hat, x).mean()
    return torch.mean(mse(x_hat, x))
