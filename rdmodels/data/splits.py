"""Image sets by name, each cut into three splits that are held in memory as 8-bit pixels.

`digits` is bundled with scikit-learn; `mnist`, `fashion_mnist` and `cifar10` are downloaded only
when they are asked for and not there; `folder:PATH` takes any images Pillow reads. Training is for
the weights; validation, cut from it, for the search and every choice; test for the final figures.

Which split an image belongs to follows from a hash of its content alone: another image more or
less, another name or another order moves no other image, and duplicates stay together.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rdmodels.config import FOLDER_PREFIX, MAX_PIXELS, MAX_SIDE, STRIDE, TrialConfig, coded_pixels
from rdmodels.data.images import ImageSet, with_color
from rdmodels.data.sources import (
    Source,
    cifar10_sources,
    digits_source,
    folder_sources,
    mnist_sources,
)
from rdmodels.errors import DatasetError
from rdmodels.metrics import MS_SSIM_MIN_SIZE, has_ms_ssim
from rdmodels.results.data import DataFingerprint, SplitFingerprint

TEST_FRACTION = 0.2
"""Of the images, where a set comes without test images of its own."""


class Splits(NamedTuple):
    """Training, validation and test images of one data set."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet

    @property
    def fingerprint(self) -> DataFingerprint:
        """What the splits hold, to be compared later."""
        train, validation, test = (
            SplitFingerprint(images=len(split), sha256=split.sha256) for split in self
        )
        return DataFingerprint(train=train, validation=validation, test=test)


def load_splits(config: TrialConfig, *, download: bool = True) -> Splits:
    """The data set that `config` names, cut into three splits, the images in use decoded.

    Args:
        download: fetch a named set that is not there.

    Raises:
        DatasetError: if it is not there and cannot be downloaded, has no readable image or a
            corrupt one, or does not fit `crop_size` or `distortion`.
    """
    train, test = _sources(config, download=download)
    learning = list(range(len(train)))
    if test is None:
        learning, testing = cut(train.hashes, learning, TEST_FRACTION, "test")
        test = train
    else:
        testing = list(range(len(test)))
    learning = fewest(train.hashes, learning, config.train_images, "train")
    testing = fewest(test.hashes, testing, config.test_images, "test")
    if len(learning) < 2:
        raise DatasetError(
            f"dataset {config.dataset} has {len(learning)} training image(s), too few to cut"
            f" validation images from: training, validation and test need at least one each"
        )
    training, validating = cut(
        train.hashes,
        learning,
        config.validation_fraction,
        f"validation {config.split_seed}",
        most=config.validation_images,
    )
    splits = Splits(
        _read(train, training, config.color),
        _read(train, validating, config.color),
        _read(test, testing, config.color),
    )
    check_fit(splits, config)
    return splits


def _sources(config: TrialConfig, *, download: bool) -> tuple[Source, Source | None]:
    if config.is_folder:
        return folder_sources(Path(config.dataset.removeprefix(FOLDER_PREFIX)), config.color)
    if config.dataset == "digits":
        return digits_source(), None
    if config.dataset == "cifar10":
        return cifar10_sources(Path(config.data_dir), download=download)
    return mnist_sources(config.dataset, Path(config.data_dir), download=download)


def share(content: bytes, purpose: str) -> float:
    """A number in [0, 1) that an image's content hash and a purpose decide."""
    digest = hashlib.sha256(purpose.encode() + b"\0" + content).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def cut(
    hashes: Sequence[bytes],
    indices: Sequence[int],
    fraction: float,
    purpose: str,
    *,
    most: int | None = None,
) -> tuple[list[int], list[int]]:
    """Cut about `fraction` of the images off: the indices that stay, and those cut off.

    An image is cut off if its `share` is below the fraction, whatever other images there are; of
    more than `most` the smallest shares. Neither part is left empty if there are two images.
    """
    order = sorted(indices, key=lambda index: (share(hashes[index], purpose), index))
    count = sum(share(hashes[index], purpose) < fraction for index in order)
    count = min(max(count, 1), len(order) - 1, len(order) if most is None else most)
    return sorted(order[count:]), sorted(order[:count])


def fewest(
    hashes: Sequence[bytes], indices: Sequence[int], most: int | None, purpose: str
) -> list[int]:
    """Up to `most` of the images, those of the smallest shares, in their order."""
    if most is None or len(indices) <= most:
        return list(indices)
    order = sorted(indices, key=lambda index: (share(hashes[index], f"some {purpose}"), index))
    return sorted(order[:most])


def _read(source: Source, indices: list[int], color: str) -> ImageSet:
    contents = sorted(source.hashes[index] for index in indices)
    images = with_color(source.read(indices), color)
    return ImageSet(images.images, images.names, hashlib.sha256(b"".join(contents)).hexdigest())


def check_fit(splits: Splits, config: TrialConfig) -> None:
    """Check that the images suit `config`'s crops and distortion, and can be coded.

    Raises:
        DatasetError: naming the image, the field and the way out.
    """
    for split in splits:
        for name, image in zip(split.names, split.images, strict=True):
            height, width = image.shape[-2:]
            if max(height, width) > MAX_SIDE or coded_pixels(height, width) > MAX_PIXELS:
                raise DatasetError(
                    f"{name} is {height}x{width}: with its sides filled up to multiples of"
                    f" {STRIDE} an image has up to {MAX_PIXELS} pixels, and up to {MAX_SIDE} a"
                    " side: scale it down"
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
