"""The last step of rate control: the averaged weights meet their target exactly.

While the learning rates fall to zero the context model still improves, and no weight of the rate
moves the encoder any more. So the importance map's logit is shifted, everywhere by the same, until
the rate is the one that was asked for.
"""

import functools
from collections.abc import Iterator

import torch
from scipy.optimize import brentq
from torch import Tensor

from rdmodels.config import TrialConfig
from rdmodels.data.images import ImageSet
from rdmodels.data.splits import Splits
from rdmodels.model.codec import Codec
from rdmodels.training.coded import coding_model_of, written_bpp
from rdmodels.training.target import rate_scale, target_bits_per_symbol

LARGEST_SHIFT = 1.0
"""Of the logit. Further open come channels that the decoder has hardly seen, which cost bits and
distortion; further shut comes what the context model has hardly seen, which may cost bits too."""
CLOSE = 0.002
"""Of the target: the rate is met."""
LATENTS = 2**24
"""Values of latents that are kept in memory; images beyond are left out."""


def trims(config: TrialConfig) -> bool:
    """Whether a training of `config` ends with a trim."""
    return config.rate_trim and config.rate_control == "controller"


def trims_by_bytes(config: TrialConfig) -> bool:
    """Whether that trim writes validation images: a target in bits per pixel is one of bytes."""
    return trims(config) and config.target_bpp is not None


@torch.no_grad()
def trim_rate(codec: Codec, splits: Splits, config: TrialConfig) -> float:
    """Shift the importance map of `codec` until validation costs what `config` asks for.

    A target in bits per pixel is one of written bytes: what the codec writes then, its context
    model converted as `finish` will do it, sets the estimate that a second shift goes by.

    Returns the shift, which is 0 unless it brings the rate nearer; where the target is out of
    reach, the nearer end. Only a bias of the encoder changes, so streams and decoder know nothing
    of it. The codec is in evaluation mode from here on.
    """
    codec.eval()
    images = splits.validation
    latents = list(_latents(codec, images, config.batch_size))
    bias = codec.encoder[-1].bias
    assert isinstance(bias, Tensor)
    target = target_bits_per_symbol(config, images)
    if config.target_bpp is None:
        shift = _shift_for(target, codec, latents, per_pixel=False)
        bias[0] += shift
        return shift
    scale = rate_scale(config, images)
    target *= scale.symbols_per_pixel
    shift = _shift_for(target, codec, latents, per_pixel=True)
    bias[0] += shift
    payload = written_bpp(coding_model_of(codec, splits.train, config), images) - scale.header_bpp
    estimate = _rate(codec, latents, shift, per_pixel=True)
    # A codec that has collapsed may cost nothing, or write nothing but headers.
    if min(payload, estimate) > 0.0:
        before = shift
        shift = _shift_for(target * estimate / payload, codec, latents, per_pixel=True)
        bias[0] += shift - before
    return shift


def _shift_for(
    target: float, codec: Codec, latents: list[tuple[Tensor, int]], *, per_pixel: bool
) -> float:
    @functools.cache
    def excess(shift: float) -> float:
        rate = _rate(codec, latents, shift, per_pixel=per_pixel) / target - 1.0
        return 0.0 if abs(rate) < CLOSE else rate

    ends = [-LARGEST_SHIFT, LARGEST_SHIFT]
    if excess(ends[0]) < 0 < excess(ends[1]):
        # The rate of a collapsed codec jumps: what is found need be no better than none.
        ends = [float(brentq(excess, ends[0], ends[1], xtol=1e-3, maxiter=20, disp=False))]
    return min([0.0, *ends], key=lambda shift: abs(excess(shift)))


def _latents(codec: Codec, images: ImageSet, batch_size: int) -> Iterator[tuple[Tensor, int]]:
    """What the encoder says of each batch, and the pixels of an image of it."""
    kept = 0
    for x in images.batches(batch_size, codec.mean.device):
        y = codec.analyse(x)
        yield y, x.shape[-2] * x.shape[-1]
        kept += y.numel()
        if kept > LATENTS:
            return


def _rate(
    codec: Codec, latents: list[tuple[Tensor, int]], shift: float, *, per_pixel: bool
) -> float:
    """Bits per symbol, or per pixel (of each image, then averaged), the map's logit shifted."""
    bits, count = 0.0, 0
    for y, pixels in latents:
        (_, symbols), _ = codec.quantize(y, shift)
        found = float(codec.symbol_bits(symbols).double().sum())
        bits += found / pixels if per_pixel else found
        count += len(y) if per_pixel else symbols.numel()
    return bits / count
