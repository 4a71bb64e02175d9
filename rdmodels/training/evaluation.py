"""Evaluation of a codec on images it was not trained on, its rate by estimate."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rdmodels import metrics
from rdmodels.config import TrialConfig
from rdmodels.data.images import ImageSet
from rdmodels.errors import EvaluationError
from rdmodels.model.codec import Codec, CodecOutput
from rdmodels.model.loss import image_distortion, total_loss
from rdmodels.results.images import ImageResult, summarise
from rdmodels.results.trial import Metrics


class Evaluation(NamedTuple):
    """Figures of each image, in order, and their means."""

    images: list[ImageResult]
    metrics: Metrics


@torch.no_grad()
def evaluate(codec: Codec, images: ImageSet, config: TrialConfig) -> Evaluation:
    """Estimated rate, and quality, of `images`, whole, on the codec's device.

    The loss is that of the whole set: distortion averaged over images, rates over symbols, the
    excess over the target taken once.

    Raises:
        EvaluationError: if a figure is not finite, or the rate exceeds log2(L) bits per symbol,
            which is what the symbols cost without any model: such a figure speaks of a broken
            evaluation, not of the codec.
    """
    was_training = codec.training
    codec.eval()
    results: list[ImageResult] = []
    sums = torch.zeros(4, dtype=torch.float64)
    for x in images.batches(config.batch_size, codec.mean.device):
        out: CodecOutput = codec(x)
        sums += _sums(x, out, config)
        names = images.names[len(results) : len(results) + len(x)]
        results += image_results(names, x, metrics.round_to_8_bits(out.x_hat), out.bits)
    codec.train(was_training)
    distortion, bits, masked_bits, symbols = sums
    beta, h_target = torch.tensor(config.beta), torch.tensor(config.h_target)
    rates = (bits / symbols, masked_bits / symbols)
    loss = total_loss(distortion / len(images), *rates, beta, h_target)
    means = summarise(results, float(loss))
    check_figures(means, config)
    return Evaluation(results, means)


def _sums(x: Tensor, out: CodecOutput, config: TrialConfig) -> Tensor:
    """Over a batch, float64: distortion, bits, bits times importance, symbols."""
    distortion = image_distortion(x, out.x_hat, config.distortion).double() * len(x)
    bits = out.bits.double()
    parts = (distortion, bits.sum(), (bits * out.importance).sum())
    return torch.tensor([*map(float, parts), bits.numel()], dtype=torch.float64)


def image_results(
    names: Sequence[str], x: Tensor, x_hat: Tensor, bits: Tensor
) -> list[ImageResult]:
    """Figures of a batch; `bits` are (B, ...), summed over all but the first axis."""
    mse = metrics.mse(x_hat.double(), x.double()).tolist()
    missing: list[None] = [None] * len(x)
    ssim = metrics.ssim(x_hat, x)
    big = metrics.has_ms_ssim(x.shape[-2], x.shape[-1])
    columns = zip(
        names,
        bits.double().sum(dim=(1, 2, 3)).tolist(),
        mse,
        missing if ssim is None else ssim.tolist(),
        metrics.ms_ssim(x_hat, x).tolist() if big else missing,
        strict=True,
    )
    return [
        ImageResult(
            name=name,
            pixels=x.shape[-2] * x.shape[-1],
            symbols=bits[0].numel(),
            bits_estimated=image_bits,
            mse=image_mse,
            psnr_db=metrics.psnr_db(image_mse),
            ssim=image_ssim,
            ms_ssim=image_ms_ssim,
            ms_ssim_db=None if image_ms_ssim is None else metrics.ms_ssim_db(image_ms_ssim),
        )
        for name, image_bits, image_mse, image_ssim, image_ms_ssim in columns
    ]


def check_figures(means: Metrics, config: TrialConfig) -> None:
    """Raise EvaluationError if the means cannot be a data point."""
    for name in ("bpp_estimated", "mse", "loss"):
        value = getattr(means, name)
        if not math.isfinite(value):
            raise EvaluationError(f"evaluation gave {name} = {value}: the training has diverged")
    # Relative slack for float32 sums: an untrained context model costs exactly log2(L).
    if means.bits_per_symbol_estimated > config.bits_per_raw_symbol * (1 + 1e-5):
        raise EvaluationError(
            f"evaluation gave {means.bits_per_symbol_estimated:.3f} bits per symbol, more than the"
            f" log2({config.num_centers}) = {config.bits_per_raw_symbol:.3f} of raw coding: the"
            " context model does not fit these images; train longer or lower the learning rates"
        )
