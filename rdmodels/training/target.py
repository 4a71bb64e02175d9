"""The rate that a trial was asked for, in bits per symbol of given images."""

import math
from typing import NamedTuple

from rdmodels.coding.container import header_size
from rdmodels.coding.streams import streams
from rdmodels.config import TrialConfig, latent_size
from rdmodels.data.images import ImageSet
from rdmodels.errors import ConfigError

DEFAULT_H_TARGET = 1.0
"""Bits per symbol, where neither h_target nor target_bpp is given."""


class RateScale(NamedTuple):
    """From bits per symbol to bits per pixel of some images: per image, then averaged.

    bpp = `symbols_per_pixel` * bits per symbol + `header_bpp`. Both count the filling up of sides
    to multiples of 8: its symbols are coded, its pixels are not there.
    """

    symbols_per_pixel: float
    header_bpp: float


def rate_scale(config: TrialConfig, images: ImageSet) -> RateScale:
    """How `images` would be coded with the latent channels and the target_bpp of `config`."""
    assert config.target_bpp is not None
    symbols, headers = [], []
    for stream in streams(images):
        channels, height, width = images.images[stream.start].shape
        rows, columns = latent_size(height, width)
        latents, pixels = config.num_latent_channels * rows * columns, height * width
        whole = math.ceil(len(stream) * pixels * config.target_bpp / 8)
        shape = (len(stream), channels, height, width)
        numbers = (*shape, config.num_latent_channels, config.num_centers)
        # The header is part of what was asked for, and says how long the payload is.
        header = header_size((*numbers, max(0, whole - header_size((*numbers, whole)))))
        symbols += [latents / pixels] * len(stream)
        headers += [8 * header / len(stream) / pixels] * len(stream)
    return RateScale(math.fsum(symbols) / len(symbols), math.fsum(headers) / len(headers))


def target_bits_per_symbol(config: TrialConfig, images: ImageSet) -> float:
    """Bits per symbol that meet the target of `config` on `images`.

    Not a rate that can be met if the images are too small for their headers, or have too few
    symbols: `check_target` says so before a training begins.
    """
    if config.target_bpp is None:
        return DEFAULT_H_TARGET if config.h_target is None else config.h_target
    scale = rate_scale(config, images)
    return (config.target_bpp - scale.header_bpp) / scale.symbols_per_pixel


def check_target(config: TrialConfig, images: ImageSet) -> None:
    """Check that the target of `config` can be met on `images`.

    Raises:
        ConfigError: if headers alone take more than target_bpp, or raw symbols less.
    """
    target = target_bits_per_symbol(config, images)
    if target <= 0:
        raise ConfigError(
            f"target_bpp {config.target_bpp:g} is less than the headers of the streams take,"
            f" {rate_scale(config, images).header_bpp:.3g} bpp on these images: raise it"
        )
    if target > config.bits_per_raw_symbol:
        needed = config.num_latent_channels * target / config.bits_per_raw_symbol
        raise ConfigError(
            f"target_bpp {config.target_bpp:g} is {target:.3g} bits for each symbol of"
            f" {config.num_latent_channels} latent channels, and log2({config.num_centers}) ="
            f" {config.bits_per_raw_symbol:.3f} is what any symbol costs uncompressed: set"
            f" num_latent_channels to {math.ceil(needed)} or more, or lower target_bpp"
        )
