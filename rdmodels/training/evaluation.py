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
from rdmodels.model.loss import hinge_loss, image_distortion
from rdmodels.results.images import ImageResult, LatentUse, mean_rate, summarise
from rdmodels.results.trial import Metrics
from rdmodels.training.target import rate_scale, target_bits_per_symbol

USED = 1e-3
"""Share of the symbols from which a center counts as used."""


class Evaluation(NamedTuple):
    """Figures of each image, in order, and their means."""

    images: list[ImageResult]
    metrics: Metrics


@torch.no_grad()
def evaluate(
    codec: Codec, images: ImageSet, config: TrialConfig, *, structural: bool = True
) -> Evaluation:
    """Estimated rate, and quality, of `images`, whole, on the codec's device.

    Args:
        structural: SSIM and MS-SSIM as well, which take longer than the codec itself.

    Raises:
        EvaluationError: if a figure is not finite, or the rate exceeds log2(L) bits per symbol,
            which is what the symbols cost without any model: such a figure speaks of a broken
            evaluation, not of the codec.
    """
    was_training = codec.training
    codec.eval()
    results: list[ImageResult] = []
    sums = torch.zeros(4, dtype=torch.float64)
    counts = torch.zeros(config.num_centers, dtype=torch.int64)
    for x in images.batches(config.batch_size, codec.mean.device):
        out: CodecOutput = codec(x)
        sums += _sums(x, out, config)
        counts += torch.bincount(out.symbols.flatten().cpu(), minlength=config.num_centers)
        names = images.names[len(results) : len(results) + len(x)]
        x_hat = metrics.round_to_8_bits(out.x_hat)
        results += image_results(names, x, x_hat, out.bits, structural=structural)
    codec.train(was_training)
    distortion, bits, masked_bits, importance = (sums / int(counts.sum())).tolist()
    distortion *= int(counts.sum()) / len(images)
    target = target_bits_per_symbol(config, images)
    ratio = bits / target
    if config.target_bpp is not None:
        estimated = mean_rate(results, "bits_estimated")
        assert estimated is not None
        ratio = (estimated + rate_scale(config, images).header_bpp) / config.target_bpp
    loss = criterion(distortion, (bits, masked_bits), target, ratio, config)
    means = summarise(results, _latent_use(importance, counts), ratio, loss)
    check_figures(means, config)
    return Evaluation(results, means)


def criterion(
    distortion: float,
    rates: tuple[float, float],
    target: float,
    ratio: float,
    config: TrialConfig,
) -> float:
    """What the best epoch has the least of.

    Under the hinge it is the loss itself. The controller's loss has another weight at each step,
    so there it is the distortion, raised by the square of what the rate exceeds the target by:
    6 dB for twice the rate, more than bits buy. A rate below the target earns nothing.

    Args:
        distortion: averaged over images. rates: H_real and H_mask, over symbols as the target is.
        ratio: of the rate to what was asked for.
    """
    if config.rate_control == "controller":
        return distortion * max(1.0, ratio) ** 2
    values = (distortion, *rates, config.beta, target)
    return float(hinge_loss(*(torch.tensor(value, dtype=torch.float64) for value in values)))


def _latent_use(importance: float, counts: Tensor) -> LatentUse:
    shares = counts.double() / counts.sum()
    entropy = float(torch.special.entr(shares).sum()) / math.log(2.0)
    return LatentUse(importance, int((shares >= USED).sum()), entropy)


def _sums(x: Tensor, out: CodecOutput, config: TrialConfig) -> Tensor:
    """Over a batch, float64: distortion, bits, bits times importance, importance."""
    distortion = image_distortion(x, out.x_hat, config.distortion).double() * len(x)
    bits, importance = out.bits.double(), out.importance.double()
    parts = (distortion, bits.sum(), (bits * importance).sum(), importance.sum())
    return torch.tensor([*map(float, parts)], dtype=torch.float64)


def image_results(
    names: Sequence[str], x: Tensor, x_hat: Tensor, bits: Tensor, *, structural: bool = True
) -> list[ImageResult]:
    """Figures of a batch; `bits` are (B, ...), summed over all but the first axis."""
    mse = metrics.mse(x_hat.double(), x.double()).tolist()
    missing: list[None] = [None] * len(x)
    ssim = metrics.ssim(x_hat, x) if structural else None
    big = structural and metrics.has_ms_ssim(x.shape[-2], x.shape[-1])
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
