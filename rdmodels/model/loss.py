"""The joint rate-distortion loss."""

from typing import NamedTuple

from torch import Tensor

from rdmodels.config import TrialConfig
from rdmodels.metrics import ms_ssim
from rdmodels.model.codec import CodecOutput


class Loss(NamedTuple):
    """Scalars of one batch. `total` is what the paper minimises; `objective` is for backward().

    distortion: MSE on [0, 1], or 1 - MS-SSIM. bits_per_symbol: mean cost of a symbol.
    """

    objective: Tensor
    total: Tensor
    distortion: Tensor
    bits_per_symbol: Tensor


def rate_distortion_loss(x: Tensor, out: CodecOutput, config: TrialConfig) -> Loss:
    """total = d + beta max(H_soft - h_target, 0), H_soft = (H_real + H_mask) / 2.

    H_real is the mean of `out.bits`, H_mask that of `out.bits * out.importance`: only through the
    latter does the encoder feel the rate. The context model has an unclamped cross-entropy of its
    own instead of its share in the clamped term: it would otherwise stop learning as soon as the
    rate is under the target, and its estimate would go stale while the encoder moves on.

    The L2 terms of the released code are the optimiser's, in `rdmodels.training.start`.
    Source: paper, equations 7 to 9.
    """
    distortion = image_distortion(x, out.x_hat, config)
    h_real = out.bits.mean()
    bits = out.bits.detach()
    h_soft = (bits.mean() + (bits * out.importance).mean()) / 2
    excess = (h_soft - config.h_target).clamp(min=0.0)
    total = distortion + config.beta * excess
    return Loss(total + h_real, total.detach(), distortion.detach(), h_real.detach())


def image_distortion(x: Tensor, x_hat: Tensor, config: TrialConfig) -> Tensor:
    """The configured distortion of a batch, a scalar."""
    if config.distortion == "ms_ssim":
        return 1.0 - ms_ssim(x_hat, x).mean()
    return (x_hat - x).square().mean()
