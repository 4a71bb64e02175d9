"""How many bits a channel of an image file has: Pillow cuts deep colour to 8 without a word."""

import re
from pathlib import Path

from PIL import Image

HEAD_BYTES = 2**16
"""JPEG 2000 and AVIF say their depth in boxes at the start of the file."""


def bits_per_channel(image: Image.Image, file: Path) -> int:
    """Bits of a channel as `file` stores them; 8 for fewer.

    Args:
        image: `file`, opened by Pillow and not loaded yet: loading drops what is read here.
    """
    if image.mode.startswith(("I", "F")):
        return 16 if "16" in image.mode else 32
    if image.format in ("JPEG2000", "AVIF"):
        with file.open("rb") as opened:
            return _boxed_depth(opened.read(HEAD_BYTES))
    deepest = 8
    for tile in getattr(image, "tile", ()):
        # PNG, TIFF, SGI: a raw mode such as RGB;16B (BMP's BGR;16 counts a whole pixel); PPM: the
        # largest value of a channel.
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        for argument in arguments:
            if isinstance(argument, str) and (found := re.search(r";(\d+)[BLN]S?$", argument)):
                deepest = max(deepest, int(found[1]))
            if tile[0] == "ppm" and isinstance(argument, int):
                deepest = max(deepest, argument.bit_length())
    return deepest


def _boxed_depth(head: bytes) -> int:
    """Depth from JPEG 2000's SIZ marker (ISO 15444-1, A.5.1) or AVIF's av1C box (section 2.3)."""
    marker = head.find(b"\xff\x51")
    if head[4:8] == b"jP  " or head[:4] == b"\xff\x4f\xff\x51":
        first, count = marker + 40, int.from_bytes(head[marker + 38 : marker + 40])
        depths = [(head[at] & 0x7F) + 1 for at in range(first, first + 3 * count, 3)]
        return max([8, *depths])
    flags = head.find(b"av1C") + len(b"av1C") + 2
    high, twelve = head[flags] & 0x40, head[flags] & 0x20
    return (12 if twelve else 10) if high else 8
