"""Converting a trained context model to integers, with scales calibrated on training images."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rdmodels.coding.integer_context import (
    ACTIVATION_BITS,
    BIAS_BITS,
    LOGIT_BITS,
    TAPS,
    VALUE_BITS,
    WEIGHT_BITS,
    IntegerContext,
    IntegerLayer,
)
from rdmodels.data.images import ImageSet, to_float
from rdmodels.errors import ConfigError
from rdmodels.model.codec import Codec
from rdmodels.model.context import MaskedConv

CALIBRATION_SIDE = 256
CALIBRATION_PIXELS = 2**18
CALIBRATION_BATCH_PIXELS = 2**16
CALIBRATED_AT_ONCE = 2**15
"""Symbols; bounds the memory."""


@torch.no_grad()
def calibration_symbols(codec: Codec, images: ImageSet) -> Tensor:
    """int64 symbols (N, C, h, w) of some training images, for `convert_context`.

    Images are taken evenly from the set and cut to their common size; about 2^18 pixels.
    """
    height = min(CALIBRATION_SIDE, *(image.shape[-2] for image in images.images))
    width = min(CALIBRATION_SIDE, *(image.shape[-1] for image in images.images))
    count = min(len(images), max(1, CALIBRATION_PIXELS // (height * width)))
    device = codec.mean.device
    indices = np.linspace(0, len(images) - 1, count).round().astype(int)
    step = max(1, CALIBRATION_BATCH_PIXELS // (height * width))
    symbols = []
    for start in range(0, count, step):
        part = [images.images[index][:, :height, :width] for index in indices[start:][:step]]
        x = to_float(torch.tensor(np.stack(part)).to(device))
        symbols.append(codec.encode(x)[0].symbols)
    return torch.cat(symbols)


@torch.no_grad()
def convert_context(codec: Codec, symbols: Tensor) -> IntegerContext:
    """Convert a trained codec's context model, with scales that fit `symbols`.

    Args:
        symbols: int64 (N, C, h, w) of training images, a few thousand symbols or more.

    Raises:
        ConfigError: if `symbols` is empty, or the model's weights are not finite.
    """
    if symbols.dim() != 4 or symbols.numel() == 0:
        raise ConfigError(f"calibration needs symbols (N, C, h, w), got {tuple(symbols.shape)}")
    context, centers = codec.context, codec.quantizer.centers.detach()
    finite = [
        bool(tensor.isfinite().all()) for tensor in (*context.state_dict().values(), centers)
    ]
    if not all(finite):
        raise ConfigError("the context model has weights that are not finite: train it again")
    value_exponent = _exponent(_largest(centers), VALUE_BITS)
    first_max, hidden_max = _activation_maxima(codec, symbols)
    outer, inner = _exponent(first_max, ACTIVATION_BITS), _exponent(hidden_max, ACTIVATION_BITS)
    bits = math.log2(math.e)
    layers = (
        _convert(context.conv0, len(TAPS) - 1, value_exponent, outer),
        _convert(context.conv1, len(TAPS), outer, inner),
        _convert(context.conv2, len(TAPS), inner, outer),
        _convert(context.logits, len(TAPS), outer, LOGIT_BITS, factor=bits),
    )
    values = (centers.double() * 2.0**value_exponent).round()
    # Through the file's own checks, so that what is converted can be loaded.
    return IntegerContext.from_tensors(IntegerContext(values, layers).tensors()).to(
        codec.mean.device
    )


def _convert(
    conv: MaskedConv, taps: int, exponent_in: int, exponent_out: int, factor: float = 1.0
) -> IntegerLayer:
    outputs = conv.bias.numel()
    weight = (conv.weight * conv.mask).double().reshape(2, outputs, -1, 9) * factor
    bias = conv.bias.double() * factor
    ordered = weight.permute(0, 3, 2, 1).flatten(0, 1)[:taps].reshape(-1, outputs)
    exponent = min(
        _exponent(_largest(ordered), WEIGHT_BITS),
        _exponent(_largest(bias), BIAS_BITS) - exponent_in,
        BIAS_BITS + exponent_out - exponent_in,
    )
    shift = exponent + exponent_in - exponent_out
    half = 2.0 ** (shift - 1) if shift > 0 else 0.0
    scaled = (bias * 2.0 ** (exponent + exponent_in)).round() + half
    return IntegerLayer((ordered * 2.0**exponent).round().contiguous(), scaled, shift)


def _activation_maxima(codec: Codec, symbols: Tensor) -> tuple[float, float]:
    """Largest size of conv0's and the residual's outputs, and of conv1's, over `symbols`."""
    outer = inner = 0.0
    context, pad = codec.context, codec.quantizer.centers.detach()[0]
    step = max(1, CALIBRATED_AT_ONCE // symbols[0].numel())
    for start in range(0, len(symbols), step):
        part = symbols[start : start + step]
        values = codec.quantizer.values(part.to(pad.device)).unsqueeze(-1)
        first = F.relu(context.conv0(values, pad))
        hidden = F.relu(context.conv1(first))
        outer = max(outer, _largest(first), _largest(first + context.conv2(hidden)))
        inner = max(inner, _largest(hidden))
    return outer, inner


def _largest(x: Tensor) -> float:
    return float(x.abs().max())


def _exponent(largest: float, bits: int) -> int:
    """Largest e, up to `bits` + 24, for which `largest` * 2^e is at most 2^bits."""
    return bits - max(math.frexp(largest)[1], -24)
