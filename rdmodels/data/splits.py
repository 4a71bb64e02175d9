"""Image sets by name, each as three splits held in memory as 8-bit pixels.

`digits` is bundled with scikit-learn; `mnist`, `fashion_mnist` and `cifar10` are downloaded only
when they are asked for and not there; `folder:PATH` takes any images Pillow reads. Validation is
cut from the training images by a seed, for search and selection; test is for final figures only.
Every image is decoded once, in `load_splits`.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from rdmodels.config import FOLDER_PREFIX, MAX_PIXELS, STRIDE, TrialConfig
from rdmodels.data.images import ImageSet, with_color
from rdmodels.data.sources import cut_test, load_cifar10, load_digits, load_folder, load_mnist
from rdmodels.errors import DatasetError
from rdmodels.metrics import MS_SSIM_MIN_SIZE, has_ms_ssim


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
