"""Symbols to bytes and back: the range coder under the integer context model.

Symbols on the wire are ordered by front, then channel, then row; within a position, by image.
Images are coded in groups whose largest front has at most 2^14 symbols (or in groups of one), one
after the other in the same message. Fronts are explained in `rdmodels.coding.fronts`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmodels.coding.fronts import Fronts, LatentShape, front_pass
from rdmodels.coding.integer_context import PMF_BITS, IntegerContext
from rdmodels.coding.range_coder import RangeDecoder, RangeEncoder
from rdmodels.errors import BitstreamError

CHUNK_SYMBOLS = 2**16


class Ordered(NamedTuple):
    """A group of n images as it is coded, by front: their symbols (C h w, n) and the symbols' pmfs
    (C h w, n, L)."""

    symbols: NDArray[np.int32]
    pmfs: NDArray[np.uint16]


def in_order(integer: IntegerContext, symbols: Tensor) -> Iterator[Ordered]:
    """The groups of int64 `symbols` (N, C, h, w), each with one walk of the network.

    It is the decoder's walk, fed with the symbols instead of asking a message for them.
    """
    fronts = Fronts.of(LatentShape(*symbols.shape))
    order = fronts.order.to(symbols.device)
    for first in range(0, len(symbols), fronts.images_at_once):
        part = symbols[first : first + fronts.images_at_once]
        ordered = part.reshape(len(part), -1)[:, order].T.contiguous()
        pmfs = _walk(integer, fronts, ordered.to(integer.device))
        values = ordered.cpu().numpy().astype(np.int32)
        yield Ordered(values, pmfs.reshape(*values.shape, -1))


def _walk(integer: IntegerContext, fronts: Fronts, ordered: Tensor) -> NDArray[np.uint16]:
    """Pmfs (C h w n, L) of known symbols (C h w, n) in coding order."""
    known = ordered.flatten()
    # An entry is at most 2^16 - 1, as every other one takes a unit.
    pmfs = np.empty((len(known), integer.num_centers), np.uint16)
    done = 0

    def next_symbols(rows: Tensor) -> Tensor:
        nonlocal done
        own = slice(done, done + len(rows))
        pmfs[own], done = rows.cpu().numpy(), own.stop
        return known[own]

    front_pass(integer, fronts, ordered.shape[1], next_symbols)
    return pmfs


def encode_symbols(groups: Iterable[Ordered]) -> bytes:
    """The message of all images of `groups`; `decode_symbols` is the inverse."""
    encoder = RangeEncoder()
    for symbols, pmfs in groups:
        values, rows = symbols.ravel(), pmfs.reshape(-1, pmfs.shape[-1])
        for start in range(0, len(values), CHUNK_SYMBOLS):
            part = slice(start, start + CHUNK_SYMBOLS)
            encoder.put(values[part], rows[part].astype(np.float64))
    return encoder.finish()


def encode_each(groups: Iterable[Ordered]) -> list[bytes]:
    """A message of its own for each image of `groups`, as `encode_symbols` gives."""
    return [
        _encode_one(symbols[:, image], pmfs[:, image].astype(np.float64))
        for symbols, pmfs in groups
        for image in range(symbols.shape[1])
    ]


def _encode_one(symbols: NDArray[np.int32], pmfs: NDArray[np.float64]) -> bytes:
    encoder = RangeEncoder()
    encoder.put(np.ascontiguousarray(symbols), pmfs)
    return encoder.finish()


def decode_symbols(
    integer: IntegerContext,
    shape: LatentShape,
    message: bytes,
    each: Sequence[bytes] | None = None,
) -> Tensor:
    """The int64 symbols (N, C, h, w), on the network's device, of an `encode_symbols` message.

    What was decoded is encoded again on the way, and must give the message back: a message is
    either exactly what `encode_symbols` writes for the symbols returned, or refused.

    Args:
        each: what `encode_each` gives, decoded in the same walk, from the same probabilities; the
            symbols must be the same.

    Raises:
        BitstreamError: if a message is damaged or of another shape, or if messages disagree.
    """
    fronts = Fronts.of(shape)
    whole, groups = _Together(message), []
    for first in range(0, shape.images, fronts.images_at_once):
        images = min(fronts.images_at_once, shape.images - first)
        sources: list[_Together | _Apart] = [whole]
        if each is not None:
            sources.append(_Apart(each[first : first + images]))
        groups.append(front_pass(integer, fronts, images, _from_all(sources)))
        for source in sources[1:]:
            source.finish()
    whole.finish()
    return torch.cat(groups)


class _Together:
    """Decodes one message of all images, encoding again what it gives."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.decoder, self.encoder = RangeDecoder(message), RangeEncoder()

    def get(self, pmfs: NDArray[np.float64]) -> NDArray[np.int32]:
        symbols = self.decoder.get(pmfs)
        self.encoder.put(symbols, pmfs)
        if self.encoder.whole_bytes() > len(self.message):
            raise BitstreamError("the coded symbols are damaged: they end too early")
        return symbols

    def finish(self) -> None:
        if self.encoder.finish() != self.message:
            raise BitstreamError("the coded symbols are damaged: they do not end as they should")


class _Apart:
    """Decodes a message for each image of a group, in step."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self.messages = messages
        self.decoders = [RangeDecoder(message) for message in messages]
        self.fronts: list[tuple[NDArray[np.int32], NDArray[np.float64]]] = []

    def get(self, pmfs: NDArray[np.float64]) -> NDArray[np.int32]:
        rows = pmfs.reshape(-1, len(self.decoders), pmfs.shape[-1])
        columns = [decoder.get(rows[:, image]) for image, decoder in enumerate(self.decoders)]
        symbols = np.stack(columns, axis=1)
        self.fronts.append((symbols, rows))
        return symbols.ravel()

    def finish(self) -> None:
        symbols = np.concatenate([each for each, _ in self.fronts])
        pmfs = np.concatenate([rows for _, rows in self.fronts])
        for image, message in enumerate(self.messages):
            if _encode_one(symbols[:, image], pmfs[:, image]) != message:
                raise BitstreamError(f"the coded symbols of image {image} are damaged")


def _from_all(sources: Sequence[_Together | _Apart]) -> Callable[[Tensor], Tensor]:
    """What a front asks for its symbols; all sources must give the same ones."""

    def next_symbols(pmfs: Tensor) -> Tensor:
        matrix = pmfs.cpu().numpy().astype(np.float64)
        symbols, *others = (source.get(matrix) for source in sources)
        if not all(np.array_equal(symbols, other) for other in others):
            raise BitstreamError("streams of the same images decode to different symbols")
        return torch.from_numpy(symbols).to(pmfs.device).long()

    return next_symbols


def least_bytes(num_centers: int, symbols: int) -> int:
    """Bytes that `symbols` cost at least: the likeliest symbol leaves one unit to each other."""
    unlikely = (num_centers - 1) / 2**PMF_BITS
    # 0.99: the coder rounds pmfs to 2^-24.
    return int(0.99 * symbols * unlikely / np.log(2.0) / 8.0)
