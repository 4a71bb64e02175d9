"""Images of more than 8 bits a channel are refused, in every format that can hold them."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdmodels.data.images import decode_file
from rdmodels.errors import DatasetError


def write_png(path: Path, bits: int, colour_type: int, channels: int) -> None:
    """Pillow writes no deep colour PNG."""
    row = b"\0" + bytes(4 * channels * bits // 8)
    header = struct.pack(">IIBBBBB", 4, 4, bits, colour_type, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(row * 4)), (b"IEND", b"")):
        checksum = zlib.crc32(kind + content)
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    path.write_bytes(data)


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_a_deep_png_is_refused_in_grey_and_colour(
    colour_type: int, channels: int, tmp_path: Path
) -> None:
    write_png(tmp_path / "deep.png", 16, colour_type, channels)
    with pytest.raises(DatasetError, match=r"deep\.png has 16 bits a channel.*convert it to 8"):
        decode_file(tmp_path / "deep.png")
    write_png(tmp_path / "flat.png", 8, colour_type, channels)
    if colour_type in (0, 2):
        assert decode_file(tmp_path / "flat.png").mode == ("L" if channels == 1 else "RGB")


def write_tiff(path: Path) -> None:
    pixels = np.full((4, 4, 3), 4000, "<u2").tobytes()
    tags = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 3, 122), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 128), (277, 3, 1, 3), (278, 3, 1, 4), (279, 4, 1, len(pixels))]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    assert len(head) == 122
    path.write_bytes(head + struct.pack("<HHH", 16, 16, 16) + pixels)


def test_deep_colour_is_refused_in_tiff_and_ppm(tmp_path: Path) -> None:
    write_tiff(tmp_path / "deep.tif")
    (tmp_path / "deep.ppm").write_bytes(b"P6 4 4 1023\n" + b"\1\0" * 48)
    (tmp_path / "flat.ppm").write_bytes(b"P6 4 4 255\n" + b"\1" * 48)
    for name, bits in (("deep.tif", 16), ("deep.ppm", 10)):
        with pytest.raises(DatasetError, match=f"{name} has {bits} bits"):
            decode_file(tmp_path / name)
    assert decode_file(tmp_path / "flat.ppm").mode == "RGB"


def test_deep_colour_is_refused_in_jpeg_2000_and_avif(tmp_path: Path) -> None:
    """Files of 8 bits, with the byte changed that says how deep they are."""
    image = Image.new("RGB", (16, 16), (10, 200, 30))
    for name, mark, offset, bits in (
        ("x.jp2", b"\xff\x51", 40, 0x0B),
        ("x.avif", b"av1C", 6, 0x40),
    ):
        image.save(tmp_path / name)
        assert decode_file(tmp_path / name).size == (16, 16)
        data = bytearray((tmp_path / name).read_bytes())
        data[data.find(mark) + offset] |= bits
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DatasetError, match=rf"{name} has 1\d bits|cannot be read"):
            decode_file(tmp_path / name)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_images_of_eight_bits_or_fewer_are_read(mode: str, tmp_path: Path) -> None:
    for suffix in ("png", "bmp", "tif"):
        if (mode, suffix) in (("CMYK", "png"), ("CMYK", "bmp")):
            continue
        Image.new("RGB", (9, 8), (9, 9, 9)).convert(mode).save(tmp_path / f"x.{suffix}")
        assert decode_file(tmp_path / f"x.{suffix}").size == (9, 8)
