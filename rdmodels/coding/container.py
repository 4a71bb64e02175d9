"""The container of a stream: a header that is checked before anything is allocated.

A stream is a header and the range coder's message. Numbers of the header are varints (7 bits a
byte, lowest first, the high bit says that more follow):

| bytes | field                                                                    |
|-------|--------------------------------------------------------------------------|
| 3     | magic `RDI`                                                              |
| 1     | version, 1                                                               |
| 4     | model id                                                                 |
| 1..   | number of images N, image channels, H, W, latent channels C, centers L   |
| 1..   | payload length in bytes                                                  |
| 4     | CRC-32 of all header bytes before it and the payload, little-endian      |

That is 19 bytes for a 28x28 image. The model id is the start of a SHA-256 over everything that the
decoder of a stream computes with: the sizes in the configuration, the image decoder, its centers
and statistics, and the integer context model. All images of a stream have one size; sides that are
no multiple of 8 are padded for coding, and the padding is cut off again.
"""

import zlib
from typing import NamedTuple

from rdmodels.coding.entropy import least_bytes
from rdmodels.coding.fronts import LatentShape
from rdmodels.config import MAX_PIXELS, MAX_SIDE, coded_pixels, latent_size
from rdmodels.errors import BitstreamError

MAGIC = b"RDI"
VERSION = 1
MODEL_ID_BYTES = 4
CHECKSUM_BYTES = 4


class Header(NamedTuple):
    """What a stream says of itself; it has `header_bytes` + `payload_bytes` bytes."""

    model_id: bytes
    images: int
    channels: int
    height: int
    width: int
    num_latent_channels: int
    num_centers: int
    payload_bytes: int
    header_bytes: int

    @property
    def latent(self) -> LatentShape:
        """Shape of the symbols."""
        rows, columns = latent_size(self.height, self.width)
        return LatentShape(self.images, self.num_latent_channels, rows, columns)


def pack(model_id: bytes, numbers: tuple[int, ...], payload: bytes) -> bytes:
    """Header and payload of a stream; `numbers` are the header's, in their order."""
    header = MAGIC + bytes([VERSION]) + model_id + b"".join(map(_varint, numbers))
    return header + _checksum(header, payload) + payload


def header_size(numbers: tuple[int, ...]) -> int:
    """Bytes that `pack` puts before the payload; `numbers` end with the payload's length."""
    return len(MAGIC) + 1 + MODEL_ID_BYTES + len(b"".join(map(_varint, numbers))) + CHECKSUM_BYTES


def read_header(data: bytes) -> Header:
    """The header of a stream, with lengths, limits and checksum verified.

    Raises:
        BitstreamError: if the stream is not one of ours, of another version, or damaged.
    """
    data = bytes(memoryview(data))
    if data[: len(MAGIC)] != MAGIC:
        raise BitstreamError(
            f"not a stream of this codec: it starts with {data[: len(MAGIC)]!r}, not {MAGIC!r}"
        )
    if data[len(MAGIC) : len(MAGIC) + 1] != bytes([VERSION]):
        found = data[len(MAGIC)] if len(data) > len(MAGIC) else "none"
        raise BitstreamError(f"the stream has version {found}, this program reads {VERSION}")
    offset = len(MAGIC) + 1 + MODEL_ID_BYTES
    model_id = data[offset - MODEL_ID_BYTES : offset]
    numbers = []
    for _ in range(7):
        number, offset = _read_varint(data, offset)
        numbers.append(number)
    header = Header(model_id, *[*numbers, offset + CHECKSUM_BYTES])
    expected = header.header_bytes + header.payload_bytes
    if len(data) != expected:
        raise BitstreamError(f"the stream has {len(data)} bytes, its header says {expected}")
    _check_limits(header)
    if data[offset : header.header_bytes] != _checksum(data[:offset], data[header.header_bytes :]):
        raise BitstreamError("the stream's checksum does not match: it is damaged")
    return header


def _check_limits(header: Header) -> None:
    _, images, channels, height, width, latents, centers, *_ = header
    if not (images and 1 <= channels <= 3 and 1 <= latents <= 1024 and 2 <= centers <= 64):
        raise BitstreamError(f"the stream's header is damaged: {header}")
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise BitstreamError(
            f"the stream's images are {height}x{width}: sides are up to {MAX_SIDE}"
        )
    if images * coded_pixels(height, width) > MAX_PIXELS:
        raise BitstreamError(f"the stream has over {MAX_PIXELS} pixels")
    least = least_bytes(centers, header.latent.symbols)
    if header.payload_bytes < least:
        raise BitstreamError(
            f"the stream has {header.payload_bytes} bytes for {header.latent.symbols} symbols,"
            f" which take {least} at least: its header is damaged"
        )


def _checksum(header: bytes, payload: bytes) -> bytes:
    return zlib.crc32(payload, zlib.crc32(header)).to_bytes(CHECKSUM_BYTES, "little")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """The varint at `offset` and the offset after it; only the shortest form, up to 35 bits."""
    number = 0
    for length, byte in enumerate(data[offset : offset + 5]):
        number |= (byte & 0x7F) << 7 * length
        if byte < 0x80:
            if length and not byte:
                break
            return number, offset + length + 1
    raise BitstreamError("the stream ends within its header, or its header is damaged")
