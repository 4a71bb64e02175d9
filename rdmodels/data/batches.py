"""Training batches: shuffled, cropped, flipped; and the statistics of training images."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from rdmodels.config import TrialConfig
from rdmodels.data.images import ImageSet, Pixels, to_float


class TrainingBatches:
    """Shuffled, augmented training batches; one size of image lives on the device.

    Photographs (folders and CIFAR-10) are flipped at random; a folder's images give random crops.
    The order and the augmentation of an epoch depend on (seed, epoch) alone, so a resumed run
    goes on exactly as an unbroken one.
    """

    def __init__(self, train: ImageSet, config: TrialConfig, device: torch.device) -> None:
        self.train = train
        self.config = config
        self.device = device
        self.flips = config.is_folder or config.dataset == "cifar10"
        crops = config.is_folder
        stacked = None if crops else train.stacked
        self.on_device = None if stacked is None else torch.tensor(stacked).to(device)
        self.images_per_epoch = len(train) * (config.crops_per_image if crops else 1)

    def __len__(self) -> int:
        return math.ceil(self.images_per_epoch / self.config.batch_size)

    def epoch(self, number: int) -> Iterator[Tensor]:
        """Float batches (B, channels, H, W) in [0, 1] of epoch `number`."""
        rng = np.random.default_rng((self.config.seed, number))
        order = rng.permutation(self.images_per_epoch) % len(self.train)
        for start in range(0, len(order), self.config.batch_size):
            indices = order[start : start + self.config.batch_size]
            if self.on_device is not None:
                batch = to_float(self.on_device[torch.from_numpy(indices).to(self.device)])
            else:
                crops = np.stack([self._crop(self.train.images[i], rng) for i in indices])
                batch = to_float(torch.from_numpy(crops).to(self.device))
            if self.flips:
                flip = torch.from_numpy(rng.random(len(indices)) < 0.5).to(self.device)
                batch = torch.where(flip[:, None, None, None], batch.flip(-1), batch)
            yield batch

    def _crop(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        size = self.config.crop_size
        top = rng.integers(image.shape[-2] - size + 1)
        left = rng.integers(image.shape[-1] - size + 1)
        return image[:, top : top + size, left : left + size]


def channel_statistics(images: ImageSet) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all pixels, on [0, 1]."""
    groups = [images.stacked] if images.stacked is not None else [i[None] for i in images.images]
    values = np.arange(256) / 255.0
    mean, std = [], []
    for channel in range(images.channels):
        counts = sum(np.bincount(group[:, channel].ravel(), minlength=256) for group in groups)
        weights = counts / np.sum(counts)
        mean.append(float(weights @ values))
        std.append(float(np.sqrt(max(weights @ (values - mean[-1]) ** 2, 1e-6))))
    return mean, std
