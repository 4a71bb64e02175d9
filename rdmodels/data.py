"""Image sets by name, each as three splits held in memory as 8-bit pixels.

`digits` is bundled with scikit-learn; `mnist`, `fashion_mnist` and `cifar10` are downloaded only
when they are asked for and not there; `folder:PATH` takes any images Pillow reads. Validation is
cut from the training images by a seed, for search and selection; test is for final figures only.
Every image is decoded once, in `load_splits`.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from rdmodels.config import FOLDER_PREFIX, STRIDE, ConfigError, TrialConfig
from rdmodels.metrics import MS_SSIM_MIN_SIZE, has_ms_ssim

Pixels = NDArray[np.uint8]

TEST_SEED = 1801_04260
"""Seed of the test cut where a set comes without one: the same images for every user."""

DIGITS_SIZE = 32
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_FOLDER = "cifar-10-batches-bin"
IMAGE_SUFFIXES = frozenset(Image.registered_extensions())

logger = logging.getLogger(__name__)


class DatasetError(ConfigError):
    """A data set that is not there, holds nothing readable, or does not fit the configuration."""


@dataclass(frozen=True)
class ImageSet:
    """8-bit images of one split: `images[i]` is (channels, H, W); sizes may differ in a folder.

    A set of one size is a single (N, channels, H, W) array.
    """

    images: Pixels | tuple[Pixels, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return int(self.images[0].shape[0])

    @property
    def stacked(self) -> Pixels | None:
        """All images as one (N, channels, H, W) array, if they have one size."""
        return self.images if isinstance(self.images, np.ndarray) else None

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> "ImageSet":
        """The images at `indices`, in that order."""
        names = tuple(self.names[i] for i in indices)
        if isinstance(self.images, np.ndarray):
            return ImageSet(self.images[np.asarray(indices)], names)
        return ImageSet(tuple(self.images[i] for i in indices), names)

    def batches(self, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        """Whole images in order, float (B, channels, H, W) in [0, 1]; B is 1 for mixed sizes."""
        step = batch_size if self.stacked is not None else 1
        for start in range(0, len(self), step):
            part = self.images[start : start + step]
            yield to_float(torch.tensor(np.stack(list(part))).to(device))


class Splits(NamedTuple):
    """Training, validation and test images of one data set."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


def to_float(pixels: Tensor) -> Tensor:
    """8-bit pixels -> float32 in [0, 1]."""
    return pixels.float() / 255.0


def load_splits(config: TrialConfig) -> Splits:
    """The data set that `config` names, decoded, cut into three splits.

    Raises:
        DatasetError: if it is not there and cannot be downloaded, has no readable image or a
            corrupt one, or does not fit `crop_size` or `distortion`.
    """
    if config.is_folder:
        train, test = _load_folder(Path(config.dataset.removeprefix(FOLDER_PREFIX)), config.color)
    elif config.dataset == "digits":
        train, test = _cut_test(_load_digits(), fraction=0.2)
    elif config.dataset == "cifar10":
        train, test = _load_cifar10(Path(config.data_dir))
    else:
        train, test = _load_mnist(config.dataset, Path(config.data_dir))
    train, test = _with_color(train, config.color), _with_color(test, config.color)
    if config.test_images is not None:
        test = test.take(range(min(config.test_images, len(test))))
    splits = Splits(*_cut_validation(train, config), test)
    _check_fit(splits, config)
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


def _cut_test(images: ImageSet, *, fraction: float) -> tuple[ImageSet, ImageSet]:
    order = np.random.default_rng(TEST_SEED).permutation(len(images))
    count = max(1, round(len(images) * fraction))
    return images.take(np.sort(order[count:])), images.take(np.sort(order[:count]))


def _check_fit(splits: Splits, config: TrialConfig) -> None:
    for split in splits:
        for name, image in zip(split.names, split.images, strict=True):
            height, width = image.shape[-2:]
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


def _with_color(images: ImageSet, color: str) -> ImageSet:
    if color == "auto" or (color == "grey") == (images.channels == 1):
        return images
    converted = tuple(_convert(image, color) for image in images.images)
    stacked = images.stacked is not None
    return ImageSet(np.stack(converted) if stacked else converted, images.names)


def read_image(file: Path, channels: int) -> Pixels:
    """One image file as 8-bit pixels (channels, H, W); grey becomes RGB where RGB is wanted.

    Raises:
        DatasetError: if it cannot be read, or would lose colour or transparency.
    """
    try:
        with Image.open(file) as opened:
            alpha = opened.convert("RGBA").getchannel("A") if _has_alpha(opened) else None
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error
    if alpha is not None and alpha.getextrema() != (255, 255):
        raise DatasetError(f"{file} has transparent pixels, which this codec has not: flatten it")
    image = _decode(file)
    if channels == 1 and image.mode != "L":
        raise DatasetError(f"{file} has colour, but the model codes grey images: convert it first")
    return _planes(image, "L" if channels == 1 else "RGB")


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _convert(image: Pixels, color: str) -> Pixels:
    pillow = Image.fromarray(image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0))
    return _planes(pillow, "L" if color == "grey" else "RGB")


def _planes(image: Image.Image, mode: str) -> Pixels:
    array = np.asarray(image.convert(mode))
    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return np.ascontiguousarray(planes)


def _load_digits() -> ImageSet:
    from sklearn.datasets import load_digits

    small = np.round(load_digits().images * (255.0 / 16.0)).astype(np.uint8)
    size = (DIGITS_SIZE, DIGITS_SIZE)
    images = [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC) for image in small]
    names = tuple(f"digit-{index:04d}" for index in range(len(images)))
    return ImageSet(np.stack([_planes(image, "L") for image in images]), names)


def _load_mnist(name: str, root: Path) -> tuple[ImageSet, ImageSet]:
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[name]
    loaded = [_torchvision(kind, name, root, train) for train in (True, False)]
    train, test = (
        ImageSet(part.data.numpy()[:, None], _numbered(f"{name}-{split}", len(part.data)))
        for part, split in zip(loaded, ("train", "test"), strict=True)
    )
    return train, test


def _torchvision(kind: Any, name: str, root: Path, train: bool) -> Any:
    try:
        return kind(str(root), train=train, download=False)
    except RuntimeError:
        logger.info("%s is not under %s, downloading it", name, root.resolve())
    try:
        return kind(str(root), train=train, download=True)
    except (RuntimeError, OSError) as error:
        raise _not_downloaded(name, root, error) from error


def _not_downloaded(name: str, root: Path, error: Exception) -> DatasetError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return DatasetError(
        f"dataset {name} is not under data_dir {root.resolve()} and cannot be downloaded"
        f" ({reason}): point data_dir at a copy, or use dataset: digits, which needs no network"
    )


def _load_cifar10(root: Path) -> tuple[ImageSet, ImageSet]:
    # The binary version: torchvision's own reader unpickles the Python version.
    from torchvision.datasets.utils import download_and_extract_archive

    folder = root / CIFAR10_FOLDER
    files = [folder / f"data_batch_{part}.bin" for part in range(1, 6)] + [
        folder / "test_batch.bin"
    ]
    if not all(file.exists() for file in files):
        try:
            download_and_extract_archive(CIFAR10_URL, str(root), md5=CIFAR10_MD5)
        except (RuntimeError, OSError) as error:
            raise _not_downloaded("cifar10", root, error) from error
    parts = [_read_cifar10(file) for file in files]
    train = np.concatenate(parts[:5])
    return (
        ImageSet(train, _numbered("cifar10-train", len(train))),
        ImageSet(parts[5], _numbered("cifar10-test", len(parts[5]))),
    )


def _read_cifar10(file: Path) -> Pixels:
    record = 1 + 3 * 32 * 32
    raw = np.fromfile(file, dtype=np.uint8)
    if raw.size == 0 or raw.size % record:
        raise DatasetError(
            f"{file} has {raw.size} bytes, no multiple of {record}: delete it and run again"
        )
    return raw.reshape(-1, record)[:, 1:].reshape(-1, 3, 32, 32)


def _numbered(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}-{index:05d}" for index in range(count))


def _load_folder(path: Path, color: str) -> tuple[ImageSet, ImageSet]:
    """A folder's images; its `test` (or else `val`) subfolder beside `train` is the test set."""
    if not path.is_dir():
        raise DatasetError(f"dataset {FOLDER_PREFIX}{path}: {path.resolve()} is not a folder")
    tests = [path / name for name in ("test", "val") if (path / name).is_dir()]
    if (path / "train").is_dir() and tests:
        train_files, test_files = _image_files(path / "train"), _image_files(tests[0])
    else:
        files = _image_files(path)
        if len(files) < 3:
            raise DatasetError(
                f"dataset {FOLDER_PREFIX}{path} has {len(files)} image(s): training, validation"
                " and test need at least 3"
            )
        order = np.random.default_rng(TEST_SEED).permutation(len(files))
        count = max(1, round(0.2 * len(files)))
        test_files = [files[i] for i in sorted(order[:count])]
        train_files = [files[i] for i in sorted(order[count:])]
    opened = [_decode(file) for file in train_files + test_files]
    grey = color == "grey" or (color == "auto" and all(image.mode == "L" for image in opened))
    images = tuple(_planes(image, "L" if grey else "RGB") for image in opened)
    names = tuple(str(file.relative_to(path)) for file in train_files + test_files)
    cut = len(train_files)
    return ImageSet(images[:cut], names[:cut]), ImageSet(images[cut:], names[cut:])


def _image_files(path: Path) -> list[Path]:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DatasetError(
            f"{path.resolve()} has no image: put files that Pillow reads there (PNG, JPEG, …)"
        )
    return files


def _decode(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            image.load()
            # 16-bit and float grey would be clipped by a plain conversion to 8 bits.
            if image.mode.startswith(("I", "F")):
                raise DatasetError(f"{file} has mode {image.mode}: convert it to 8 bits")
            return image.convert("L" if image.mode in ("1", "L") else "RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{file} cannot be read as an image ({error}): repair it or remove it")


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
