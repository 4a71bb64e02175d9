"""Soft-to-hard quantizer with learned centers."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Quantized(NamedTuple):
    """A quantized latent. `y_hat` holds center values, `symbols` their int64 indices."""

    y_hat: Tensor
    symbols: Tensor


class Quantizer(nn.Module):
    """Nearest of L learned centers, with the gradient of a softmax over all of them.

    Forward takes y of any shape and returns `Quantized` of the same shape. The value of `y_hat`
    is the nearest center; its gradient is that of sum_l softmax_l(-sigma (y - c_l)^2) c_l.
    Source: paper, section 3.2, equations 3 and 4.

    Args:
        at_zero: one center begins at 0, all of them shifted by half a step if their number is
            even. What the importance map shuts out is 0: half way between two centers, a small
            move of either changes the symbols of all of it, and the context model must learn anew.
    """

    def __init__(self, num_centers: int, sigma: float, *, at_zero: bool = True) -> None:
        super().__init__()
        centers = torch.linspace(-2.0, 2.0, num_centers)
        if at_zero and num_centers % 2 == 0:
            centers = centers + 2.0 / (num_centers - 1)
        self.centers = nn.Parameter(centers)
        self.sigma = sigma

    def forward(self, y: Tensor) -> Quantized:
        squares = (y.unsqueeze(-1) - self.centers).square()
        symbols = squares.argmin(-1)
        hard = self.values(symbols)
        if not torch.is_grad_enabled():
            return Quantized(hard, symbols)
        soft = (torch.softmax(-self.sigma * squares, dim=-1) * self.centers).sum(-1)
        return Quantized(soft + (hard - soft).detach(), symbols)

    def values(self, symbols: Tensor) -> Tensor:
        """Center values of `symbols` (int64, any shape), without a gradient."""
        return self.centers.detach()[symbols]
