"""Sample reconstructions as one picture: originals above, reconstructions below."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rdmodels.data.images import ImageSet, Pixels, to_float
from rdmodels.metrics import to_uint8
from rdmodels.model.codec import Codec

COLUMNS_OF_SMALL = 8
COLUMNS_OF_LARGE = 3
SMALL_SIDE = 64
LARGE_CUT = 256
GAP = 2


def reconstruction_grid(codec: Codec, images: ImageSet) -> Image.Image:
    """The first images of `images` above what `codec` makes of them, in 8 bits.

    Small images are enlarged twice, of large ones the middle 256 px are shown as they are.
    """
    small = max(images.images[0].shape[-2:]) <= SMALL_SIDE
    columns = []
    for image in images.images[: COLUMNS_OF_SMALL if small else COLUMNS_OF_LARGE]:
        pair = [_show(pixels, small=small) for pixels in (image, reconstruct(codec, image))]
        columns.append(_stack(pair, axis=1))
    height = max(column.shape[1] for column in columns)
    padded = [
        np.pad(c, ((0, 0), (0, height - c.shape[1]), (0, 0)), constant_values=255) for c in columns
    ]
    grid = _stack(padded, axis=2)
    return Image.fromarray(grid[0] if len(grid) == 1 else grid.transpose(1, 2, 0))


def write_reconstructions(path: Path, codec: Codec, images: ImageSet) -> None:
    """Write `reconstruction_grid` as a PNG."""
    reconstruction_grid(codec, images).save(path, format="PNG")


@torch.no_grad()
def reconstruct(codec: Codec, image: Pixels) -> Pixels:
    """What the codec makes of one 8-bit image (channels, H, W)."""
    x = to_float(torch.tensor(image).unsqueeze(0)).to(codec.mean.device)
    (y_hat, _), _ = codec.encode(x)
    x_hat = codec.decode(y_hat, (image.shape[-2], image.shape[-1]))
    pixels: Pixels = to_uint8(x_hat[0]).cpu().numpy()
    return pixels


def _show(pixels: Pixels, *, small: bool) -> Pixels:
    if small:
        return pixels.repeat(2, axis=1).repeat(2, axis=2)
    top, left = (max(0, (side - LARGE_CUT) // 2) for side in pixels.shape[-2:])
    return pixels[:, top : top + LARGE_CUT, left : left + LARGE_CUT]


def _stack(parts: list[Pixels], *, axis: int) -> Pixels:
    widths = [(0, 0)] * 3
    widths[axis] = (0, GAP)
    spaced = [np.pad(part, widths, constant_values=255) for part in parts[:-1]] + parts[-1:]
    return np.concatenate(spaced, axis=axis)
