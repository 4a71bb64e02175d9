"""The corner of a sweep's hypervolume: the worst that its space and its images allow.

The rate is that of raw symbols of the largest number of latent channels and of centers in the
space, the quality that of the mean training image in place of every validation image. Both are
known before the first trial.
"""

import numpy as np
import torch

from rdmodels import metrics
from rdmodels.config import TrialConfig, latent_size
from rdmodels.data.images import ImageSet, Pixels, to_float
from rdmodels.data.splits import Splits
from rdmodels.results.images import mean_of
from rdmodels.results.quality import Corner, corner_of, quality_of
from sweep.spec.spec import SweepSpec


def make_corner(spec: SweepSpec, splits: Splits) -> Corner:
    """The corner that `spec` gives, or else the one of its space and images, in three digits."""
    distortion = spec.base.distortion
    if spec.hypervolume_reference is not None:
        return corner_of(spec.hypervolume_reference.model_dump(exclude_none=True), distortion)
    rate = max(raw_bpp(config, splits.validation) for config in spec.extremes())
    quality = mean_image_quality(splits, distortion)
    # Few digits, so that what is printed is what was used.
    return Corner(float(f"{rate:.3g}"), float(f"{quality:.3g}"))


def corner_text(spec: SweepSpec, corner: Corner) -> str:
    """The corner in a line, with where it comes from."""
    label = quality_of(spec.base.distortion).label.split(",")[0]
    given = "as given" if spec.hypervolume_reference is not None else "raw symbols; the mean image"
    return f"Hypervolume from {corner.bpp:g} bpp, {label} {corner.quality_db:g} dB ({given})"


def raw_bpp(config: TrialConfig, images: ImageSet) -> float:
    """Rate of the symbols at log2(L) bits each; per image, then averaged."""
    rates = []
    for image in images.images:
        height, width = image.shape[-2:]
        rows, columns = latent_size(height, width)
        symbols = config.num_latent_channels * rows * columns
        rates.append(symbols * config.bits_per_raw_symbol / (height * width))
    return float(np.mean(rates))


def mean_image_quality(splits: Splits, distortion: str) -> float:
    """Quality in dB of the mean training image; per validation image, then averaged.

    Images of several sizes have no mean image, and the mean colour takes its place.
    """
    name = quality_of(distortion).name
    values = [
        _quality_db(image, mean_image(splits.train, image), name)
        for image in splits.validation.images
    ]
    found = mean_of(values)
    # Missing only if every validation image is that image itself.
    return 0.0 if found is None else found


def mean_image(train: ImageSet, image: Pixels) -> Pixels:
    """The mean of the training images if they are of `image`'s size, else of their colours."""
    stacked = train.stacked
    if stacked is not None and stacked.shape[1:] == image.shape:
        mean = stacked.mean(axis=0)
    else:
        sums = np.sum([each.sum(axis=(1, 2), dtype=np.int64) for each in train.images], axis=0)
        pixels = sum(each[0].size for each in train.images)
        mean = np.broadcast_to((sums / pixels)[:, None, None], image.shape)
    return np.asarray(np.round(mean), dtype=np.uint8)


def _quality_db(image: Pixels, shown: Pixels, name: str) -> float | None:
    x, x_hat = (to_float(torch.tensor(pixels)).unsqueeze(0) for pixels in (image, shown))
    if name == "ms_ssim_db":
        return metrics.ms_ssim_db(float(metrics.ms_ssim(x_hat, x)))
    return metrics.psnr_db(float(metrics.mse(x_hat.double(), x.double())))
