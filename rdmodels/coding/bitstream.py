"""Images to bytes and back: compress and decompress, and the container around their symbols.

    x -> Codec.encode -> symbols -> encode_symbols -> payload | header + payload
    x_hat <- Codec.decode <- symbols <- decode_symbols <- payload | header + payload

Symbols come back bit for bit on every machine. Pixels are then computed by a float network, so
between machines, or between a batch and single images, a few may differ by one of 255 levels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdmodels.coding.coding_model import CodingModel
from rdmodels.coding.container import Header, pack, read_header
from rdmodels.coding.entropy import (
    decode_symbols,
    encode_each,
    encode_symbols,
    in_order,
)
from rdmodels.config import MAX_PIXELS, MAX_SIDE, coded_pixels
from rdmodels.data.images import Pixels, to_float
from rdmodels.errors import BitstreamError, ConfigError
from rdmodels.metrics import to_uint8

CHUNK_PIXELS = 2**18
"""Pixels that go through the autoencoder at once, if images are smaller."""


def compress(model: CodingModel, image: Pixels) -> bytes:
    """A uint8 image (channels, H, W) of any size -> stream.

    Raises:
        ValueError: if the image is of another type, shape or number of channels.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        raise ValueError(
            f"compress takes one image as a uint8 array (channels, H, W), got {_described(image)};"
            " compress_batch takes (N, channels, H, W)"
        )
    return compress_batch(model, image[None])


def decompress(model: CodingModel, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The image (channels, H, W) of a `compress` stream: decode(encode(x)) rounded to 8 bits.

    Args:
        max_pixels: streams of larger images are refused before anything is computed.

    Raises:
        BitstreamError: if the stream is damaged, of another model, or holds several images.
    """
    header = read_header(data)
    if header.images != 1:
        raise BitstreamError(f"the stream holds {header.images} images: use decompress_batch")
    image: Pixels = decompress_batch(model, data, max_pixels=max_pixels)[0]
    return image


def compress_batch(model: CodingModel, images: Pixels) -> bytes:
    """uint8 images (N, channels, H, W) of one size -> one stream with a single header.

    Raises:
        ValueError: if the images are of another type, shape or number of channels.
    """
    _check_images(model, images)
    size = (images.shape[-2], images.shape[-1])
    return compress_symbols(model, encode_images(model, images), size)


def compress_symbols(model: CodingModel, symbols: Tensor, size: tuple[int, int]) -> bytes:
    """Symbols (N, C, h, w) of images of `size` (H, W) -> one stream.

    Raises:
        ConfigError: if that is more than a stream holds.
    """
    _check_size(len(symbols), *size)
    payload = encode_symbols(in_order(model.integer_context, symbols))
    return _packed(model, len(symbols), size, payload)


def compress_both(
    model: CodingModel, symbols: Tensor, size: tuple[int, int]
) -> tuple[bytes, list[bytes]]:
    """Symbols (N, C, h, w) of images of `size` -> one stream, and a stream for each of them.

    The same as `compress_symbols` and, image by image, `compress`, with one pass of the network.

    Raises:
        ConfigError: if that is more than a stream holds.
    """
    if len(symbols) == 1:
        data = compress_symbols(model, symbols, size)
        return data, [data]
    _check_size(len(symbols), *size)
    groups = list(in_order(model.integer_context, symbols))
    each = [_packed(model, 1, size, message) for message in encode_each(groups)]
    return _packed(model, len(symbols), size, encode_symbols(groups)), each


def _packed(model: CodingModel, images: int, size: tuple[int, int], payload: bytes) -> bytes:
    latents, centers = model.config.num_latent_channels, model.config.num_centers
    numbers = (images, model.codec.channels, *size, latents, centers, len(payload))
    return pack(model.model_id, numbers, payload)


def decompress_both(model: CodingModel, data: bytes, each: Sequence[bytes]) -> Tensor:
    """The symbols (N, C, h, w) of what `compress_both` gave, all streams decoded in one walk.

    Raises:
        BitstreamError: if a stream is damaged, of another model or of another size, or if streams
            of the same image give different symbols.
    """
    headers = [read_header(stream) for stream in (data, *each)]
    whole, single = headers[0], headers[0]._replace(images=1)
    for header in headers:
        _check_model(model, header)
    for header in headers[1:]:
        if (header.images, header.latent) != (1, single.latent) or len(each) != whole.images:
            raise BitstreamError(
                f"{whole.images} images of {whole.height}x{whole.width} need as many streams of"
                f" one such image, got {len(each)}, one of {header.images} of"
                f" {header.height}x{header.width}"
            )
    messages = [
        bytes(stream[header.header_bytes :])
        for stream, header in zip((data, *each), headers, strict=True)
    ]
    # One image's stream is its own.
    apart = messages[1:] if whole.images > 1 else None
    return decode_symbols(model.integer_context, whole.latent, messages[0], apart)


def decompress_batch(model: CodingModel, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The images (N, channels, H, W) of a `compress_batch` stream, or of a `compress` one.

    Args:
        max_pixels: streams with more pixels in all images together are refused.

    Raises:
        BitstreamError: if the stream is damaged or of another model.
    """
    symbols, size = decompress_symbols(model, data, max_pixels=max_pixels)
    return decode_images(model, symbols, size)


def decompress_symbols(
    model: CodingModel, data: bytes, *, max_pixels: int = MAX_PIXELS
) -> tuple[Tensor, tuple[int, int]]:
    """The symbols (N, C, h, w) of a stream, and its images' (H, W); `decode_images` goes on.

    Raises:
        BitstreamError: as `decompress_batch`.
    """
    header = read_header(data)
    _check_model(model, header)
    pixels = header.images * header.height * header.width
    if pixels > max_pixels:
        raise BitstreamError(
            f"the stream has {pixels} pixels, the limit is {max_pixels}: raise max_pixels"
        )
    payload = bytes(data[header.header_bytes :])
    symbols = decode_symbols(model.integer_context, header.latent, payload)
    return symbols, (header.height, header.width)


@torch.no_grad()
def encode_images(model: CodingModel, images: Pixels) -> Tensor:
    """uint8 images (N, channels, H, W) -> int64 symbols (N, C, h, w)."""
    step = _images_at_once(images.shape[-2], images.shape[-1])
    device = model.codec.mean.device
    parts = []
    for start in range(0, len(images), step):
        pixels = torch.tensor(np.ascontiguousarray(images[start : start + step]))
        parts.append(model.codec.encode(to_float(pixels.to(device)))[0].symbols)
    return torch.cat(parts)


@torch.no_grad()
def decode_images(model: CodingModel, symbols: Tensor, size: tuple[int, int]) -> Pixels:
    """Symbols (N, C, h, w) -> uint8 images (N, channels, *size)."""
    device = model.codec.mean.device
    parts = []
    step = _images_at_once(*size)
    for start in range(0, len(symbols), step):
        y_hat = model.codec.quantizer.values(symbols[start : start + step].to(device))
        parts.append(to_uint8(model.codec.decode(y_hat, size)).cpu().numpy())
    return np.concatenate(parts)


def _images_at_once(height: int, width: int) -> int:
    return max(1, CHUNK_PIXELS // (height * width))


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return type(value).__name__


def _check_images(model: CodingModel, images: Pixels) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            "images must be a uint8 array (N, channels, H, W) of values 0 to 255,"
            f" got {_described(images)}"
        )
    channels = images.shape[1]
    if not images.size:
        raise ValueError(f"images must not be empty, got shape {images.shape}")
    _check_size(len(images), *images.shape[-2:])
    if channels != model.codec.channels:
        kind = {1: "grey", 3: "RGB"}.get(model.codec.channels, f"{model.codec.channels}-channel")
        raise ValueError(
            f"the model codes {kind} images, got {channels} channel(s): convert the images"
        )


def _check_size(count: int, height: int, width: int) -> None:
    if max(height, width) > MAX_SIDE or count * coded_pixels(height, width) > MAX_PIXELS:
        raise ConfigError(
            f"a stream holds up to {MAX_SIDE} pixels a side and {MAX_PIXELS} in all, got"
            f" {count} image(s) of {height}x{width}: split them"
        )


def _check_model(model: CodingModel, header: Header) -> None:
    if header.model_id != model.model_id:
        raise BitstreamError(
            f"the stream was written by model {header.model_id.hex()}, this is"
            f" {model.model_id.hex()}: decompress it with the model that compressed it"
        )
    config = model.config
    sizes = (header.channels, header.num_latent_channels, header.num_centers)
    expected = (model.codec.channels, config.num_latent_channels, config.num_centers)
    if sizes != expected:
        raise BitstreamError(
            f"the stream has channels, latent channels and centers {sizes}, its model {expected}"
        )
