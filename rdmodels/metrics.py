"""Rate and quality of images, with the conventions every number of this project follows.

- bpp: bits of the stream that was written and decoded back, header included, over the pixels of
  the unpadded image; per image, then averaged.
- A stream an image, except images of one size up to 64x64 px: up to 1,000 of those share a stream,
  as in an archive, and an image's bits are its share. bpp stand-alone has a stream for each of
  them too. From 64x64 to the next larger size bpp therefore jumps, the stand-alone rate does not.
- bpp estimated: the cross-entropy of the symbols under the float context model, in place of the
  written bits. It is also the rate of a trial whose training is not finished.
- MSE: on [0, 1], per image, of reconstructions clamped and rounded to 8 bits; then averaged.
- PSNR: from that per-image MSE, in dB, then averaged over images. A lossless image has no PSNR
  (a missing value, never infinity). The PSNR of the mean MSE is another number, dBs apart.
- SSIM (window 11) and MS-SSIM (5 scales, window 11) of the same 8-bit images, per image, then
  averaged. MS-SSIM in dB is -10 log10(1 - MS-SSIM), per image, then averaged. MS-SSIM exists only
  for images with more than 160 px on the short side, SSIM from 11.
"""

import math

import torch
from pytorch_msssim import ms_ssim as _ms_ssim
from pytorch_msssim import ssim as _ssim
from torch import Tensor

WINDOW = 11
MS_SSIM_MIN_SIZE = (WINDOW - 1) * 2**4 + 1
"""Shortest side in px for which MS-SSIM's five scales exist: 161."""


def round_to_8_bits(x: Tensor) -> Tensor:
    """`x` clamped to [0, 1] and rounded to the values an 8-bit image can hold."""
    return (x.clamp(0.0, 1.0) * 255.0).round() / 255.0


def mse(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of each image: (B, channels, H, W) twice -> (B,)."""
    return (x_hat - x).square().mean(dim=(1, 2, 3))


def psnr_db(mean_squared_error: float) -> float | None:
    """PSNR in dB of an MSE on [0, 1]; None for a lossless image."""
    return None if mean_squared_error == 0 else -10.0 * math.log10(mean_squared_error)


def ssim(x_hat: Tensor, x: Tensor) -> Tensor | None:
    """SSIM of each image, (B,); None below 11 px."""
    if min(x.shape[-2:]) < WINDOW:
        return None
    out: Tensor = _ssim(x_hat, x, data_range=1.0, size_average=False, win_size=WINDOW)
    return out


def has_ms_ssim(height: int, width: int) -> bool:
    """Whether MS-SSIM is defined for an image of this size."""
    return min(height, width) >= MS_SSIM_MIN_SIZE


def ms_ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """MS-SSIM of each image, (B,), differentiable.

    Raises:
        ValueError: below 161 px on the short side.
    """
    height, width = x.shape[-2:]
    if not has_ms_ssim(height, width):
        raise ValueError(
            f"MS-SSIM needs {MS_SSIM_MIN_SIZE} px or more on the short side, got"
            f" {height}x{width}; use SSIM for small images"
        )
    out: Tensor = _ms_ssim(x_hat, x, data_range=1.0, size_average=False, win_size=WINDOW)
    return out


def ms_ssim_db(value: float) -> float | None:
    """MS-SSIM in dB: -10 log10(1 - value); None for identical images."""
    return None if value >= 1.0 else -10.0 * math.log10(1.0 - value)


def to_uint8(x: Tensor) -> Tensor:
    """Image tensor in [0, 1] -> uint8, by the rounding that the metrics use."""
    return (x.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
