"""A trained model against JPEG and WebP at the same bytes, image by image.

    python tests/benchmarks/codecs.py MODEL [IMAGE ...]

Without images, those that the model's own data set keeps for testing are taken. MODEL is what
`rdsweep compress --model` takes: a directory, SWEEP@POINT, an MLflow URI. Each image is
compressed by the model; then JPEG and WebP get the highest quality whose file is no larger,
headers included. Prints bits per pixel and PSNR of 8-bit pixels, per image, then averaged. Where
even the lowest quality is larger than the model's stream, that quality is taken and marked.
"""

import argparse
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from rdmodels.coding.bitstream import compress, decompress
from rdmodels.data.images import Pixels, read_image
from rdmodels.data.splits import load_splits
from rdmodels.metrics import psnr_db
from sweep.models.lookup import open_model


class Coded(NamedTuple):
    """One image by one codec. larger: even its lowest quality took more bytes than allowed."""

    bpp: float
    psnr: float
    larger: bool = False


def quality_of(pixels: Pixels, decoded: Pixels) -> float:
    error = np.square((pixels.astype(np.float64) - decoded) / 255.0).mean()
    return psnr_db(float(error)) or float("nan")


def to_pillow(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def by_pillow(pixels: Pixels, form: str, most: int) -> Coded:
    """The highest quality of `form` that takes at most that many bytes."""
    image = to_pillow(pixels)
    best = None
    low, high = 0 if form == "WEBP" else 1, 100
    while low <= high:
        quality = (low + high) // 2
        data = saved(image, form, quality)
        if len(data) <= most:
            best, low = data, quality + 1
        else:
            high = quality - 1
    data = saved(image, form, 0 if form == "WEBP" else 1) if best is None else best
    with Image.open(BytesIO(data)) as opened:
        decoded = np.asarray(opened.convert(image.mode))
    planes = decoded[None] if decoded.ndim == 2 else decoded.transpose(2, 0, 1)
    return Coded(8 * len(data) / pixels[0].size, quality_of(pixels, planes), best is None)


def saved(image: Image.Image, form: str, quality: int) -> bytes:
    buffer = BytesIO()
    options = {"method": 6} if form == "WEBP" else {"optimize": True}
    image.save(buffer, format=form, quality=quality, **options)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("images", nargs="*", type=Path)
    arguments = parser.parse_args()
    rows: dict[str, list[Coded]] = {"this model": [], "JPEG": [], "WEBP": []}
    with open_model(arguments.model, Path("sweeps"), None, "cpu") as model:
        images = [read_image(file, model.codec.channels) for file in arguments.images]
        if not images:
            images = list(load_splits(model.config, download=False).test.images)
        for pixels in images:
            stream = compress(model, pixels)
            ours = quality_of(pixels, decompress(model, stream))
            rows["this model"].append(Coded(8 * len(stream) / pixels[0].size, ours))
            for form in ("JPEG", "WEBP"):
                rows[form].append(by_pillow(pixels, form, len(stream)))
    print(f"{len(images)} image(s), averages of bpp and PSNR per image")
    for name, found in rows.items():
        larger = sum(each.larger for each in found)
        note = f"  ({larger} larger than the model's stream)" if larger else ""
        bpp = np.mean([each.bpp for each in found])
        psnr = np.mean([each.psnr for each in found])
        gain = psnr - np.mean([each.psnr for each in rows["this model"]])
        print(f"{name:<11} {bpp:.3f} bpp  {psnr:.2f} dB  ({gain:+.2f} dB){note}")


if __name__ == "__main__":
    main()
