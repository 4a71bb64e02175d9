"""Symbols to bytes and back: the range coder under the integer context model.

Symbols on the wire are ordered by front, then channel, then row; within a position, by image.
Images are coded in groups whose largest front has at most 2^14 symbols (or in groups of one), one
after the other in the same message. Fronts are explained in `rdmodels.coding.fronts`.
"""

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
