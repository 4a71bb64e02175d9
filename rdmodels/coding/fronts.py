"""Fronts: positions of a latent that can be decoded at once, and the walk over them.

The probabilities of a symbol depend on symbols before it. With t = column + 2 row + 4 channel,
every input of every layer at a position, except the position's own, has a smaller t: all positions
of one t, a front, are decoded at once, from the activations that the seven fronts before have
left.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdmodels.coding.integer_context import TAPS, IntegerContext

GROUP_SYMBOLS = 2**14
"""Symbols of a group's largest front; part of the format."""
RING = 8
"""Fronts whose activations are kept: a position reaches back 7 fronts, and sees its own."""


class LatentShape(NamedTuple):
    """Images, latent channels, rows and columns of a message's symbols."""

    images: int
    channels: int
    height: int
    width: int

    @property
    def symbols(self) -> int:
        """Symbols in the message."""
        return self.images * self.channels * self.height * self.width


class Fronts(NamedTuple):
    """The order of a latent's positions, and where each front begins in it.

    `order` (C h w,) are raster indices in coding order, `row` the ring's row of each padded
    raster index, `base` the padded index of each entry of `order`.
    """

    shape: LatentShape
    order: Tensor
    starts: list[int]
    base: Tensor
    row: Tensor
    largest: int
    steps: tuple[int, int]

    @property
    def images_at_once(self) -> int:
        """Images of a group."""
        return max(1, GROUP_SYMBOLS // self.largest)

    @classmethod
    def of(cls, shape: LatentShape) -> "Fronts":
        """The fronts of one image's latent, images ignored."""
        channels, height, width = shape[1:]
        channel, row, column = np.indices(shape[1:], dtype=np.int64).reshape(3, -1)
        time = column + 2 * row + 4 * channel
        order = np.argsort(time, kind="stable")
        counts = np.bincount(time)
        starts = np.concatenate([[0], np.cumsum(counts)])
        largest = int(counts.max())
        steps = ((height + 2) * (width + 2), width + 2)
        base = ((channel + 1) * steps[0] + (row + 1) * steps[1] + column + 1)[order]
        sorted_time = time[order]
        rank = np.arange(len(order)) - starts[sorted_time]
        rows = np.full((channels + 1) * steps[0], RING * largest)
        rows[base] = sorted_time % RING * largest + rank
        tensors = (torch.from_numpy(array) for array in (order, base, rows))
        order_tensor, base_tensor, row_tensor = tensors
        return cls(shape, order_tensor, starts.tolist(), base_tensor, row_tensor, largest, steps)


@torch.no_grad()
def front_pass(
    integer: IntegerContext,
    fronts: Fronts,
    images: int,
    next_symbols: Callable[[Tensor], Tensor],
) -> Tensor:
    """Walk the latents of `images` images front by front, asking for the symbols of each.

    The activations of the last eight fronts lie in ring buffers, a row for each position and
    image; the last rows stand for everything outside the latent.

    Args:
        next_symbols: from int64 pmfs (n, L) of a front, ordered by position, then image, to its
            int64 symbols (n,).

    Returns:
        int64 symbols (images, C, h, w).
    """
    device = integer.device
    offsets = torch.tensor([c * fronts.steps[0] + r * fronts.steps[1] + w for c, r, w in TAPS])
    offsets, base, row = (x.to(device) for x in (offsets, fronts.base, fronts.row * images))
    image = torch.arange(images, device=device)[:, None]
    rows = (RING * fronts.largest + 1) * images
    values = integer.values[:1].repeat(rows, 1)
    first, hidden, residual = (integer.values.new_zeros(rows, integer.features) for _ in range(3))
    coded = torch.empty(len(base) * images, dtype=torch.int64, device=device)
    for time, (start, stop) in enumerate(zip(fronts.starts, fronts.starts[1:], strict=False)):
        if start == stop:  # a latent of one or two columns skips some
            continue
        near = row[base[start:stop, None] + offsets][:, None] + image
        taps = near.flatten(0, 1)
        begin = time % RING * fronts.largest * images
        own = slice(begin, begin + len(taps))
        first[own] = integer.first(_gather(values, taps[:, :-1]))
        hidden[own] = integer.hidden(_gather(first, taps))
        residual[own] = integer.residual(_gather(hidden, taps), first[own])
        symbols = next_symbols(integer.pmfs(_gather(residual, taps)))
        values[own, 0] = integer.values[symbols]
        coded[start * images : stop * images] = symbols
    latent = torch.empty(images, len(base), dtype=torch.int64, device=device)
    latent[:, fronts.order.to(device)] = coded.reshape(-1, images).T
    return latent.reshape(images, *fronts.shape[1:])


def _gather(ring: Tensor, taps: Tensor) -> Tensor:
    return ring.index_select(0, taps.reshape(-1)).reshape(len(taps), -1)
