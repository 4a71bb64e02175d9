"""Image sets by name, each as three splits held in memory as 8-bit pixels.

`digits` is bundled with scikit-learn; `mnist`, `fashion_mnist` and `cifar10` are downloaded only
when they are asked for and not there; `folder:PATH` takes any images Pillow reads. Validation is
cut from the training images by a seed, for search and selection; test is for final figures only.
Every image is decoded once, in `load_splits`.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdmodels.config import FOLDER_PREFIX, MAX_PIXELS, STRIDE, TrialConfig
from rdmodels.images import DatasetError, ImageSet, Pixels, read_image, to_float, with_color
from rdmodels.metrics import MS_SSIM_MIN_SIZE, has_ms_ssim
from rdmodels.sources import cut_test, load_cifar10, load_digits, load_folder, load_mnist

__all__ = [
    "DatasetError",
    "ImageSet",
    "Pixels",
    "Splits",
    "TrainingBatches",
    "channel_statistics",
    "check_fit",
    "load_splits",
    "read_image",
    "to_float",
]


class Splits(NamedTuple):
    """Training, validation and test images of one data set."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


def load_splits(config: TrialConfig) -> Splits:
    """The data set that `config` names, decoded, cut into three splits.

    Raises:
        DatasetError: if it is not there and cannot be downloaded, has no readable image or a
            corrupt one, or does not fit `crop_size` or `distortion`.
    """
    if config.is_folder:
        train, test = load_folder(Path(config.dataset.removeprefix(FOLDER_PREFIX)), config.color)
    elif config.dataset == "digits":
        train, test = cut_test(load_digits(), fraction=0.2)
    elif config.dataset == "cifar10":
        train, test = load_cifar10(Path(config.data_dir))
    else:
        train, test = load_mnist(config.dataset, Path(config.data_dir))
    train, test = with_color(train, config.color), with_color(test, config.color)
    if config.test_images is not None:
        test = test.take(range(min(config.test_images, len(test))))
    splits = Splits(*_cut_validation(train, config), test)
    check_fit(splits, config)
    return splits


def _cut_validation(train: ImageSet, config: TrialConfig) -> tuple[ImageSet, ImageSet]:
    order = np.random.default_rng(config.split_seed).permutation(len(train))
    count = max(1, round(len(train) * config.validation_fraction))
    if count >= len(train):
        raise DatasetError(
            f"dataset {config.dataset} has {len(train)} training image(s), too few to cut a"
            f" validation_fraction of {config.validation_fraction:g} from: add images"
        )
    kept = order[count:][: config.train_images]
    return train.take(np.sort(kept)), train.take(np.sort(order[:count]))


def check_fit(splits: Splits, config: TrialConfig) -> None:
    """Check that the images suit `config`'s crops and distortion, and can be coded.

    Raises:
        DatasetError: naming the image, the field and the way out.
    """
    for split in splits:
        for name, image in zip(split.names, split.images, strict=True):
            height, width = image.shape[-2:]
            if height * width > MAX_PIXELS:
                raise DatasetError(
                    f"{name} is {height}x{width}, over {MAX_PIXELS} pixels: scale it down"
                )
            if config.distortion == "ms_ssim" and not has_ms_ssim(height, width):
                raise DatasetError(
                    f"distortion ms_ssim needs {MS_SSIM_MIN_SIZE} px or more on the short side,"
                    f" but {name} of {config.dataset} is {height}x{width}: set distortion: mse"
                )
            if config.is_folder and split is splits.train and min(height, width) < STRIDE:
                raise DatasetError(
                    f"{name} is {height}x{width}: training images need {STRIDE} px or more on"
                    " each side, remove it from the folder"
                )
    if not config.is_folder:
        return
    short = min(min(image.shape[-2:]) for image in splits.train.images)
    if short < config.crop_size:
        raise DatasetError(
            f"crop_size {config.crop_size} is more than the short side of the smallest training"
            f" image of {config.dataset}, {short} px: set crop_size to"
            f" {short // STRIDE * STRIDE} or less"
        )
    if config.distortion == "ms_ssim" and not has_ms_ssim(config.crop_size, config.crop_size):
        raise DatasetError(
            f"distortion ms_ssim needs a crop_size of {MS_SSIM_MIN_SIZE} or more, got"
            f" {config.crop_size}: set crop_size: 168"
        )


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
