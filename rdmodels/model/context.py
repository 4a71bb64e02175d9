"""Causal context model: the probability of each latent symbol given those before it.

Symbols are ordered channel, then row, then column. Each layer is a masked 3-D convolution with
kernel (2, 3, 3): all of the previous channel's 3x3 neighbourhood, and of the current channel the
rows above and the columns to the left (the current position too, in all layers but the first).
It runs as one 2-D convolution with the latent channels folded into the batch, over the features of
the previous channel and of this one side by side, features last in memory. The numbers are those
of the 3-D convolution, several times faster.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedConv(nn.Module):
    """One causal layer: (B, C, h, w, inputs) -> (B, C, h, w, outputs).

    `weight` is (2 * outputs, inputs, 3, 3): what an input adds to the next channel's outputs, then
    what it adds to its own channel's. Outside the volume the input is `pad_value`, or zero.

    Args:
        see_current: whether a position sees its own input (all layers but the first).
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, *, see_current: bool) -> None:
        super().__init__()
        conv = nn.Conv2d(2 * inputs, outputs, 3)
        assert conv.bias is not None
        weight = conv.weight.detach().reshape(outputs, 2, inputs, 3, 3).transpose(0, 1)
        self.weight = nn.Parameter(weight.reshape(2 * outputs, inputs, 3, 3).contiguous())
        self.bias = conv.bias
        current = torch.tensor([[1, 1, 1], [1, int(see_current), 0], [0, 0, 0]])
        taps = torch.stack([torch.ones(3, 3), current.float()])
        mask = taps.repeat_interleave(outputs, dim=0).unsqueeze(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor, pad_value: Tensor | None = None) -> Tensor:
        weight = self.weight * self.mask
        bias = self.bias
        if pad_value is not None:
            # Shifted so that zeros outside stand for pad_value; the shift's response is constant.
            x = x - pad_value
            bias = bias + (pad_value * weight.sum(dim=(1, 2, 3))).reshape(2, -1).sum(0)
        batch, channels, height, width, inputs = x.shape
        # Nothing precedes the first channel.
        previous = F.pad(x[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
        both = torch.cat([previous, x], dim=-1).reshape(-1, height, width, 2 * inputs)
        taps = torch.cat(weight.chunk(2), dim=1)
        out = F.conv2d(both.permute(0, 3, 1, 2), taps, bias, padding=1)
        return out.permute(0, 2, 3, 1).reshape(batch, channels, height, width, -1)


class ContextModel(nn.Module):
    """Logits of every symbol given the symbols before it, all in one parallel pass.

    y_hat (B, C, h, w), latent *values*, -> logits (B, C, h, w, L). Outside the latent the first
    layer sees centers[0], the later ones zeros; the receptive field is 5x9x9. Two deviations from
    the released code: no ReLU on the logits, which kept them from being negative, and the last
    layer starts at zero, so an untrained model costs exactly log2(L) bits per symbol.
    Source: paper, section 3.1 and figure 5.
    """

    def __init__(self, num_centers: int, features: int) -> None:
        super().__init__()
        self.conv0 = MaskedConv(1, features, see_current=False)
        self.conv1 = MaskedConv(features, features, see_current=True)
        self.conv2 = MaskedConv(features, features, see_current=True)
        self.logits = MaskedConv(features, num_centers, see_current=True)
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def forward(self, y_hat: Tensor, pad_value: Tensor) -> Tensor:
        first = F.relu(self.conv0(y_hat.unsqueeze(-1), pad_value))
        features = first + self.conv2(F.relu(self.conv1(first)))
        out: Tensor = self.logits(features)
        return out


def cross_entropy_bits(logits: Tensor, symbols: Tensor) -> Tensor:
    """Cost in bits of each symbol: the cross-entropy against its logits, in float32.

    Args:
        logits: (B, C, h, w, L). symbols: int64 (B, C, h, w).

    Returns:
        (B, C, h, w).
    """
    nats = F.cross_entropy(logits.float().flatten(0, -2), symbols.flatten(), reduction="none")
    return nats.reshape(symbols.shape) / math.log(2.0)
