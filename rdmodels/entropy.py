"""Symbols to bytes and back, with a range coder under the integer context model.

A range coder narrows an interval of numbers by each symbol's share of it and sends one number of
the last interval: -log2 of all shares together, a fraction of a byte more. The decoder finds each
symbol by where that number lies, and needs the same shares, so the same probabilities.

Those of a symbol depend on symbols before it. With t = column + 2 row + 4 channel, every input of
every layer at a position, except the position's own, has a smaller t: all positions of one t, a
front, are decoded at once, from the activations that the seven fronts before have left. So the
symbols on the wire are ordered by front, then channel, then row; within a position, by image.
Images are coded in groups whose largest front has at most 2^14 symbols (or in groups of one),
one after the other in the same message.

The range coder is constriction's, 32-bit words, `Categorical(perfect=False)`; its choice of
rounding is part of the format.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmodels.integer_context import BLOCK, PMF_BITS, TAPS, IntegerContext, pmfs_by_channel

GROUP_SYMBOLS = 2**14
"""Symbols of a group's largest front; part of the format."""
CHUNK_SYMBOLS = 2**16
RING = 8
"""Fronts whose activations are kept: a position reaches back 7 fronts, and sees its own."""


class BitstreamError(ValueError):
    """A stream that is damaged, is not ours, or belongs to another model."""


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


class Encoder:
    """Range encoder of symbols under integer pmfs; `Decoder` is its mirror image."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()
        self._model = constriction.stream.model.Categorical(perfect=False)

    def put(self, symbols: NDArray[np.int32], pmfs: NDArray[np.float64]) -> None:
        """Append `symbols` (n,), each under its row of `pmfs` (n, L)."""
        with _coder_errors():
            self._coder.encode(symbols, self._model, np.ascontiguousarray(pmfs))

    def whole_bytes(self) -> int:
        """Bytes that the symbols so far cost at least; a message is never shorter."""
        words, (_, width) = self._coder.pos()
        return int(32 * words + 64 - int(width).bit_length()) // 8

    def finish(self) -> bytes:
        """The message: the shortest number in the last interval, zeros beyond its end."""
        words, (low, width) = self._coder.pos()
        size = 4 * (words + 2)
        sent = self._coder.get_compressed().astype(">u4").tobytes()
        point = int.from_bytes(sent.ljust(size, b"\0"), "big")
        start = point - (point - low) % 2**64
        count = self.whole_bytes()
        while True:
            unit = 1 << 8 * (size - count)
            rounded = -(-start // unit)
            if rounded * unit < start + width:
                message: bytes = rounded.to_bytes(count, "big")
                return message
            count += 1


class Decoder:
    """Range decoder of an `Encoder`'s message, which may be damaged."""

    def __init__(self, message: bytes) -> None:
        padded = message + bytes(-len(message) % 4 + 8)
        with _coder_errors():
            words = np.frombuffer(padded, ">u4").astype(np.uint32)
            self._coder = constriction.stream.queue.RangeDecoder(words)
        self._model = constriction.stream.model.Categorical(perfect=False)

    def get(self, pmfs: NDArray[np.float64]) -> NDArray[np.int32]:
        """The next symbols (n,), each under its row of `pmfs` (n, L).

        Raises:
            BitstreamError: if the message cannot be one of an `Encoder`.
        """
        with _coder_errors():
            symbols: NDArray[np.int32] = self._coder.decode(
                self._model, np.ascontiguousarray(pmfs)
            )
        return symbols


@contextmanager
def _coder_errors() -> Iterator[None]:
    try:
        yield
    except (AssertionError, ValueError) as error:
        raise BitstreamError(f"the coded symbols are damaged ({error})") from error
    except BaseException as error:
        # Rust's panics derive from BaseException, under a class that cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise BitstreamError(f"the coded symbols are damaged ({error})") from error


def encode_symbols(integer: IntegerContext, symbols: Tensor) -> bytes:
    """Range-code int64 `symbols` (N, C, h, w); `decode_symbols` is the inverse."""
    encoder = Encoder()
    fronts = Fronts.of(LatentShape(*symbols.shape))
    for first in range(0, len(symbols), fronts.images_at_once):
        part = symbols[first : first + fronts.images_at_once].to(integer.device)
        count, positions = len(part), part[0].numel()
        pmfs = _all_pmfs(integer, part).reshape(count, positions, -1)
        values = part.reshape(count, positions).cpu().numpy().astype(np.int32)
        step = max(1, CHUNK_SYMBOLS // count)
        for start in range(0, positions, step):
            chosen = fronts.order[start : start + step].numpy()
            matrix = pmfs[:, chosen].swapaxes(0, 1).reshape(-1, integer.num_centers)
            encoder.put(values[:, chosen].T.ravel(), matrix.astype(np.float64))
    return encoder.finish()


def decode_symbols(integer: IntegerContext, shape: LatentShape, message: bytes) -> Tensor:
    """The int64 symbols (N, C, h, w), on the network's device, of an `encode_symbols` message.

    What was decoded is encoded again on the way, and must give the message back: a message is
    either exactly what `encode_symbols` writes for the symbols returned, or refused.

    Raises:
        BitstreamError: if the message is damaged or of another shape.
    """
    decoder, encoder = Decoder(message), Encoder()

    def next_symbols(pmfs: Tensor) -> Tensor:
        matrix = pmfs.cpu().numpy().astype(np.float64)
        symbols = decoder.get(matrix)
        encoder.put(symbols, matrix)
        if encoder.whole_bytes() > len(message):
            raise BitstreamError("the coded symbols are damaged: they end too early")
        return torch.from_numpy(symbols).to(pmfs.device).long()

    fronts = Fronts.of(shape)
    groups = []
    for first in range(0, shape.images, fronts.images_at_once):
        images = min(fronts.images_at_once, shape.images - first)
        groups.append(front_pass(integer, fronts, images, next_symbols))
    if encoder.finish() != message:
        raise BitstreamError("the coded symbols are damaged: they do not end where they should")
    return torch.cat(groups)


def least_bytes(num_centers: int, symbols: int) -> int:
    """Bytes that `symbols` cost at least: the likeliest symbol leaves one unit to each other."""
    unlikely = (num_centers - 1) / 2**PMF_BITS
    # 0.99: the coder rounds pmfs to 2^-24.
    return int(0.99 * symbols * unlikely / np.log(2.0) / 8.0)


def _all_pmfs(integer: IntegerContext, symbols: Tensor) -> NDArray[np.uint16]:
    """(N, C, h, w, L); an entry is at most 2^16 - 1, as every other one takes a unit."""
    images, _, height, width = symbols.shape
    pmfs = np.empty((*symbols.shape, integer.num_centers), np.uint16)
    step = max(1, BLOCK // (height * width))
    for start in range(0, images, step):
        part = symbols[start : start + step]
        for channel, rows in enumerate(pmfs_by_channel(integer, part)):
            pmfs[start : start + step, channel] = rows.cpu().numpy()
    return pmfs


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
