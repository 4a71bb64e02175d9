"""The integer context model over a whole latent of known symbols, channel by channel: written
independently of the walk that codes, to compare it with."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from rdmodels.coding.integer_context import TAPS, IntegerContext

BLOCK = 4096
"""Positions computed at once by the parallel pass; bounds its memory."""


@torch.no_grad()
def pmfs_by_channel(integer: IntegerContext, symbols: Tensor) -> Iterator[Tensor]:
    """The parallel pass: int64 pmfs (N, h, w, L) of each latent channel in turn.

    Two channels of activations are alive at a time, however many there are.

    Args:
        symbols: int64 (N, C, h, w), on the network's device.
    """
    pad = float(integer.values[0])
    batch, _, height, width = symbols.shape
    shape = (batch, height + 2, width + 2)
    blank = integer.values.new_zeros(*shape, integer.features)
    below = [integer.values[0].expand(*shape, 1), blank, blank, blank]
    for channel in symbols.unbind(1):
        values = F.pad(integer.values[channel], (1, 1, 1, 1), value=pad).unsqueeze(-1)
        planes = [values]
        for layer in range(3):
            blocks = []
            for start, x in _neighbours(below[layer], planes[layer], len(TAPS) - (layer == 0)):
                if layer == 0:
                    out = integer.first(x)
                elif layer == 1:
                    out = integer.hidden(x)
                else:
                    rows = len(x) // (batch * width)
                    first = planes[1][:, start + 1 : start + 1 + rows, 1:-1]
                    out = integer.residual(x, first.reshape(-1, integer.features))
                blocks.append(out.reshape(batch, -1, width, integer.features))
            planes.append(F.pad(torch.cat(blocks, 1), (0, 0, 1, 1, 1, 1)))
        outputs = [integer.pmfs(x) for _, x in _neighbours(below[3], planes[3], len(TAPS))]
        yield torch.cat([part.reshape(batch, -1, width, part.shape[-1]) for part in outputs], 1)
        below = planes


def _neighbours(previous: Tensor, current: Tensor, taps: int) -> Iterator[tuple[int, Tensor]]:
    """Blocks of rows: the first row and its inputs (N * rows * w, taps * inputs)."""
    batch, height, width, inputs = (*current.shape[:1], *(s - 2 for s in current.shape[1:3]), -1)
    step = max(1, BLOCK // (batch * width))
    for start in range(0, height, step):
        stop = min(start + step, height)
        near = [
            (current if channel == 0 else previous)[
                :, start + 1 + row : stop + 1 + row, 1 + column : 1 + column + width
            ]
            for channel, row, column in TAPS[:taps]
        ]
        yield start, torch.cat(near, dim=-1).reshape(batch * (stop - start) * width, inputs)
