"""Symbols to bytes and back: the range coder under the integer context model.

Symbols on the wire are ordered by front, then channel, then row; within a position, by image.
Images are coded in groups whose largest front has at most 2^14 symbols (or in groups of one), one
after the other in the same message. Fronts are explained in `rdmodels.coding.fronts`.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmodels.coding.fronts import Fronts, LatentShape, front_pass
from rdmodels.coding.integer_context import PMF_BITS, IntegerContext
from rdmodels.coding.parallel_pass import BLOCK, pmfs_by_channel
from rdmodels.coding.range_coder import RangeDecoder, RangeEncoder
from rdmodels.errors import BitstreamError

CHUNK_SYMBOLS = 2**16


def encode_symbols(integer: IntegerContext, symbols: Tensor) -> bytes:
    """Range-code int64 `symbols` (N, C, h, w); `decode_symbols` is the inverse."""
    encoder = RangeEncoder()
    for values, pmfs in _groups(integer, symbols):
        count, positions = values.shape
        step = max(1, CHUNK_SYMBOLS // count)
        for start in range(0, positions, step):
            rows = pmfs[:, start : start + step].swapaxes(0, 1)
            matrix = rows.reshape(-1, integer.num_centers).astype(np.float64)
            encoder.put(values[:, start : start + step].T.ravel(), matrix)
    return encoder.finish()


def encode_each(integer: IntegerContext, symbols: Tensor) -> list[bytes]:
    """A message of its own for each image of `symbols` (N, C, h, w), as `encode_symbols` gives."""
    messages = []
    for values, pmfs in _groups(integer, symbols):
        for image, rows in zip(values, pmfs, strict=True):
            encoder = RangeEncoder()
            encoder.put(image, rows.astype(np.float64))
            messages.append(encoder.finish())
    return messages


def _groups(
    integer: IntegerContext, symbols: Tensor
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.uint16]]]:
    """Symbols (n, C h w) of each group of images, and their pmfs (n, C h w, L), by front."""
    fronts = Fronts.of(LatentShape(*symbols.shape))
    order = fronts.order.numpy()
    for first in range(0, len(symbols), fronts.images_at_once):
        part = symbols[first : first + fronts.images_at_once].to(integer.device)
        pmfs = _all_pmfs(integer, part).reshape(len(part), len(order), -1)
        values = part.reshape(len(part), -1).cpu().numpy().astype(np.int32)
        yield np.ascontiguousarray(values[:, order]), np.ascontiguousarray(pmfs[:, order])


def decode_symbols(integer: IntegerContext, shape: LatentShape, message: bytes) -> Tensor:
    """The int64 symbols (N, C, h, w), on the network's device, of an `encode_symbols` message.

    What was decoded is encoded again on the way, and must give the message back: a message is
    either exactly what `encode_symbols` writes for the symbols returned, or refused.

    Raises:
        BitstreamError: if the message is damaged or of another shape.
    """
    decoder, encoder = RangeDecoder(message), RangeEncoder()

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


def decode_each(integer: IntegerContext, shape: LatentShape, messages: Sequence[bytes]) -> Tensor:
    """The int64 symbols (N, C, h, w) of N messages of one image each, walked in step.

    Args:
        shape: of all images together; as many as there are messages.

    Raises:
        BitstreamError: if a message is damaged or of another shape.
    """
    fronts = Fronts.of(shape)
    groups = []
    for first in range(0, len(messages), fronts.images_at_once):
        decoders = [RangeDecoder(m) for m in messages[first : first + fronts.images_at_once]]
        groups.append(front_pass(integer, fronts, len(decoders), _from_each(decoders)))
    symbols = torch.cat(groups)
    if encode_each(integer, symbols) != list(messages):
        raise BitstreamError("the coded symbols are damaged: they are not what was encoded")
    return symbols


def _from_each(decoders: Sequence[RangeDecoder]) -> Callable[[Tensor], Tensor]:
    """What a front asks for its symbols: each image's come from its own decoder."""

    def next_symbols(pmfs: Tensor) -> Tensor:
        rows = pmfs.reshape(-1, len(decoders), pmfs.shape[-1]).cpu().numpy().astype(np.float64)
        columns = [decoder.get(rows[:, image]) for image, decoder in enumerate(decoders)]
        return torch.from_numpy(np.stack(columns, axis=1).ravel()).to(pmfs.device).long()

    return next_symbols


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
