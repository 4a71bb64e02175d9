"""Causal context model: the probability of each latent symbol given those before it.

Symbols are ordered channel, then row, then column. Each layer is a masked 3-D convolution with
kernel (2, 3, 3): all of the previous channel's 3x3 neighbourhood, and of the current channel the
rows above and the columns to the left (the current position too, in all layers but the first).
It runs as a 2-D convolution over [previous channel; this channel] with the latent channels folded
into the batch, which gives the same numbers several times faster.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedConv(nn.Module):
    """One causal layer: (B, C, inputs, h, w) -> (B, C, outputs, h, w).

    `weight` is (outputs, 2 * inputs, 3, 3): the previous channel's inputs, then this channel's.
    Outside the volume the input is `pad_value`.

    Args:
        see_current: whether a position sees its own input (all layers but the first).
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, *, see_current: bool) -> None:
        super().__init__()
        conv = nn.Conv2d(2 * inputs, outputs, 3)
        assert conv.bias is not None
        self.weight, self.bias = conv.weight, conv.bias
        current = torch.tensor([[1, 1, 1], [1, int(see_current), 0], [0, 0, 0]])
        taps = torch.stack([torch.ones(3, 3), current.float()])
        self.register_buffer("mask", taps.repeat_interleave(inputs, dim=0), persistent=False)

    def forward(self, x: Tensor, pad_value: Tensor | None = None) -> Tensor:
        batch, channels, inputs, height, width = x.shape
        if pad_value is None:
            before = x.new_zeros(batch, 1, inputs, height, width)
        else:
            before = pad_value.to(x.dtype).expand(batch, 1, inputs, height, width)
        pair = torch.cat([torch.cat([before, x[:, :-1]], dim=1), x], dim=2)
        pair = pair.reshape(batch * channels, 2 * inputs, height, width)
        if pad_value is not None:
            # Padding by a tensor's value: shift it to zero, pad, shift back, all on the device.
            pair = F.pad(pair - pad_value, (1, 1, 1, 1)) + pad_value
        padding = 0 if pad_value is not None else 1
        out = F.conv2d(pair, self.weight * self.mask, self.bias, padding=padding)
        return out.reshape(batch, channels, -1, height, width)


class ContextModel(nn.Module):
    """Logits of every symbol given the symbols before it, all in one parallel pass.

    y_hat (B, C, h, w), latent *values*, -> logits (B, C, L, h, w). Outside the latent the first
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
        first = F.relu(self.conv0(y_hat.unsqueeze(2), pad_value))
        features = first + self.conv2(F.relu(self.conv1(first)))
        out: Tensor = self.logits(features)
        return out


def symbol_bits(logits: Tensor, symbols: Tensor) -> Tensor:
    """Cost in bits of each symbol: the cross-entropy against its logits, in float32.

    Args:
        logits: (B, C, L, h, w). symbols: int64 (B, C, h, w).

    Returns:
        (B, C, h, w).
    """
    nats = F.cross_entropy(logits.float().flatten(0, 1), symbols.flatten(0, 1), reduction="none")
    return nats.reshape(symbols.shape) / math.log(2.0)
