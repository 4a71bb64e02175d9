"""The range coder: symbols under given probabilities to bytes and back.

A range coder narrows an interval of numbers by each symbol's share of it and sends one number of
the last interval: -log2 of all shares together, a fraction of a byte more. The decoder finds each
symbol by where that number lies, and needs the same shares, so the same probabilities.

It is constriction's, 32-bit words, `Categorical(perfect=False)`; its choice of rounding is part of
the format.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import constriction
import numpy as np
from numpy.typing import NDArray

from rdmodels.errors import BitstreamError


class RangeEncoder:
    """Range encoder of symbols under integer pmfs; `RangeDecoder` is its mirror image."""

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


class RangeDecoder:
    """Range decoder of an `RangeEncoder`'s message, which may be damaged."""

    def __init__(self, message: bytes) -> None:
        padded = message + bytes(-len(message) % 4 + 8)
        with _coder_errors():
            words = np.frombuffer(padded, ">u4").astype(np.uint32)
            self._coder = constriction.stream.queue.RangeDecoder(words)
        self._model = constriction.stream.model.Categorical(perfect=False)

    def get(self, pmfs: NDArray[np.float64]) -> NDArray[np.int32]:
        """The next symbols (n,), each under its row of `pmfs` (n, L).

        Raises:
            BitstreamError: if the message cannot be one of an `RangeEncoder`.
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
