"""Evaluation of a codec on images it was not trained on: by estimate, or by bytes."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rdmodels import metrics
from rdmodels.config import TrialConfig
from rdmodels.data.images import ImageSet
from rdmodels.errors import EvaluationError
from rdmodels.model.codec import Codec, CodecOutput
from rdmodels.model.loss import rate_distortion_loss
from rdmodels.results.images import ImageResult, summarise
from rdmodels.results.trial import Metrics


class Evaluation(NamedTuple):
    """Figures of each image, in order, and their means."""

    images: list[ImageResult]
    metrics: Metrics


@torch.no_grad()
def evaluate(codec: Codec, images: ImageSet, config: TrialConfig) -> Evaluation:
    """Estimated rate, and quality, of `images`, whole, on the codec's device.

    Raises:
        EvaluationError: if a figure is not finite, or the rate exceeds log2(L) bits per symbol,
            which is what the symbols cost without any model: such a figure speaks of a broken
            evaluation, not of the codec.
    """
    was_training = codec.training
    codec.eval()
    results: list[ImageResult] = []
    loss = 0.0
    for x in images.batches(config.batch_size, codec.mean.device):
        out: CodecOutput = codec(x)
        loss += float(rate_distortion_loss(x, out, config).total) * len(x)
        names = images.names[len(results) : len(results) + len(x)]
        results += image_results(names, x, metrics.round_to_8_bits(out.x_hat), out.bits)
    codec.train(was_training)
    means = summarise(results, loss / len(images))
    check_figures(means, config)
    return Evaluation(results, means)


def image_results(
    names: tuple[str, ...], x: Tensor, x_hat: Tensor, bits: Tensor
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
        )
        for name, image_bits, image_mse, image_ssim, image_ms_ssim in columns
    ]


def check_figures(means: Metrics, config: TrialConfig) -> None:
    """Raise EvaluationError if the means cannot be a data point."""
    for name in ("bpp", "mse", "loss"):
        value = getattr(means, name)
        if not math.isfinite(value):
            raise EvaluationError(f"evaluation gave {name} = {value}: the training has diverged")
    # Relative slack for float32 sums: an untrained context model costs exactly log2(L).
    if means.bits_per_symbol > config.bits_per_raw_symbol * (1 + 1e-5):
        raise EvaluationError(
            f"evaluation gave {means.bits_per_symbol:.3f} bits per symbol, more than the"
            f" log2({config.num_centers}) = {config.bits_per_raw_symbol:.3f} of raw coding: the"
            " context model does not fit these images; train longer or lower the learning rates"
        )
