"""Trained models against JPEG and WebP at the same bytes, image by image.

    python tests/benchmarks/codecs.py MODEL [MODEL ...] [--images IMAGE ...]

Without images, those that the model's own data set keeps for testing are taken. MODEL is what
`rdsweep compress --model` takes: a directory, SWEEP@POINT, an MLflow URI. Each image is
compressed by the model; JPEG and WebP, headers included, by the two neighbouring qualities
between whose files its stream lies, and their PSNR at exactly its bytes is interpolated on a
logarithmic scale of bytes. (The highest quality that is no larger would have 6 % fewer bytes.)
Where even the lowest quality is larger than the stream, or the highest smaller, that one is taken
and marked. Prints bits per pixel and PSNR of 8-bit pixels, each averaged over the images; of
several models the mean of their differences and its interval of 95 % by Student's t.
"""

import argparse
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.stats
from PIL import Image

from rdmodels.coding.bitstream import compress, decompress
from rdmodels.data.images import Pixels, read_image
from rdmodels.data.splits import load_splits
from rdmodels.metrics import psnr_db
from sweep.models.lookup import open_model


class Coded(NamedTuple):
    """One image by one codec. beside: no two of its qualities have the bytes between them."""

    bpp: float
    psnr: float
    beside: bool = False


def quality_of(pixels: Pixels, decoded: Pixels) -> float:
    error = np.square((pixels.astype(np.float64) - decoded) / 255.0).mean()
    return psnr_db(float(error)) or float("nan")


def to_pillow(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def by_pillow(pixels: Pixels, form: str, size: int) -> Coded:
    """What `form` has at `size` bytes, between two of its qualities."""
    image = to_pillow(pixels)
    lowest = 0 if form == "WEBP" else 1
    low, high = lowest, 100
    # The last quality that is no larger, and the one after it.
    while low <= high:
        quality = (low + high) // 2
        if len(saved(image, form, quality)) <= size:
            low = quality + 1
        else:
            high = quality - 1
    qualities = sorted({max(lowest, high), min(100, high + 1)})
    sizes, values = zip(
        *(by_quality(pixels, image, form, each) for each in qualities), strict=True
    )
    psnr = float(np.interp(np.log(size), np.log(sizes), values))
    beside = not sizes[0] <= size <= sizes[-1]
    reached = float(np.clip(size, sizes[0], sizes[-1]))
    return Coded(8 * reached / pixels[0].size, psnr, beside)


def by_quality(pixels: Pixels, image: Image.Image, form: str, quality: int) -> tuple[int, float]:
    """Bytes and PSNR of one quality."""
    data = saved(image, form, quality)
    with Image.open(BytesIO(data)) as opened:
        decoded = np.asarray(opened.convert(image.mode))
    planes = decoded[None] if decoded.ndim == 2 else decoded.transpose(2, 0, 1)
    return len(data), quality_of(pixels, planes)


def saved(image: Image.Image, form: str, quality: int) -> bytes:
    buffer = BytesIO()
    options = {"method": 6} if form == "WEBP" else {"optimize": True}
    image.save(buffer, format=form, quality=quality, **options)
    return buffer.getvalue()


def compare(name: str, files: list[Path]) -> dict[str, list[Coded]]:
    """Every image by the model `name`, by JPEG and by WebP."""
    rows: dict[str, list[Coded]] = {"this model": [], "JPEG": [], "WEBP": []}
    with open_model(name, Path("sweeps"), None, "cpu") as model:
        images = [read_image(file, model.codec.channels) for file in files]
        if not images:
            images = list(load_splits(model.config, download=False).test.images)
        for pixels in images:
            stream = compress(model, pixels)
            ours = quality_of(pixels, decompress(model, stream))
            rows["this model"].append(Coded(8 * len(stream) / pixels[0].size, ours))
            for form in ("JPEG", "WEBP"):
                rows[form].append(by_pillow(pixels, form, len(stream)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--images", nargs="*", type=Path, default=[])
    arguments = parser.parse_args()
    differences: dict[str, list[float]] = {"JPEG": [], "WEBP": []}
    for model in arguments.models:
        rows = compare(model, arguments.images)
        print(f"{model}: {len(rows['JPEG'])} image(s), averages of bpp and PSNR per image")
        ours = float(np.mean([each.psnr for each in rows["this model"]]))
        for name, found in rows.items():
            beside = sum(each.beside for each in found)
            note = f"  ({beside} at other bytes)" if beside else ""
            bpp = np.mean([each.bpp for each in found])
            psnr = float(np.mean([each.psnr for each in found]))
            print(f"{name:<11} {bpp:.3f} bpp  {psnr:.2f} dB  ({psnr - ours:+.2f} dB){note}")
            if name in differences:
                differences[name].append(ours - psnr)
    count = len(arguments.models)
    for name, found in differences.items() if count > 1 else ():
        half = scipy.stats.t.ppf(0.975, count - 1) * np.std(found, ddof=1) / np.sqrt(count)
        mean = np.mean(found)
        interval = f"{mean - half:+.2f} to {mean + half:+.2f}"
        print(f"{count} models over {name}: {mean:+.2f} dB ({interval})")


if __name__ == "__main__":
    main()
