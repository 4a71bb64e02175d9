"""Where images come from: scikit-learn's digits, torchvision's sets, CIFAR-10, folders.

Each function gives training and test images, decoded; digits come as one set.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rdmodels.config import FOLDER_PREFIX
from rdmodels.data.images import ImageSet, Pixels, decode_file, planes
from rdmodels.errors import DatasetError

TEST_SEED = 1801_04260
"""Seed of the test cut where a set comes without one: the same images for every user."""

DIGITS_SIZE = 32
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_FOLDER = "cifar-10-batches-bin"
IMAGE_SUFFIXES = frozenset(Image.registered_extensions())

logger = logging.getLogger(__name__)


def cut_test(images: ImageSet, *, fraction: float) -> tuple[ImageSet, ImageSet]:
    """Cut a fraction off as test images, the same ones every time."""
    order = np.random.default_rng(TEST_SEED).permutation(len(images))
    count = max(1, round(len(images) * fraction))
    return images.take(np.sort(order[count:])), images.take(np.sort(order[:count]))


def load_digits() -> ImageSet:
    """scikit-learn's bundled handwritten digits, enlarged from 8x8 to 32x32."""
    from sklearn.datasets import load_digits

    small = np.round(load_digits().images * (255.0 / 16.0)).astype(np.uint8)
    size = (DIGITS_SIZE, DIGITS_SIZE)
    images = [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC) for image in small]
    names = tuple(f"digit-{index:04d}" for index in range(len(images)))
    return ImageSet(np.stack([planes(image, "L") for image in images]), names)


def load_mnist(name: str, root: Path) -> tuple[ImageSet, ImageSet]:
    """MNIST or Fashion-MNIST, downloaded into `root` if it is not there."""
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


def load_cifar10(root: Path) -> tuple[ImageSet, ImageSet]:
    """CIFAR-10, downloaded into `root` if it is not there."""
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


def load_folder(path: Path, color: str) -> tuple[ImageSet, ImageSet]:
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
    opened = [decode_file(file) for file in train_files + test_files]
    grey = color == "grey" or (color == "auto" and all(image.mode == "L" for image in opened))
    images = tuple(planes(image, "L" if grey else "RGB") for image in opened)
    names = tuple(str(file.relative_to(path)) for file in train_files + test_files)
    cut = len(train_files)
    return _stacked(images[:cut], names[:cut]), _stacked(images[cut:], names[cut:])


def _stacked(images: tuple[Pixels, ...], names: tuple[str, ...]) -> ImageSet:
    same = len({image.shape for image in images}) == 1
    return ImageSet(np.stack(images) if same else images, names)


def _image_files(path: Path) -> list[Path]:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DatasetError(
            f"{path.resolve()} has no image: put files that Pillow reads there (PNG, JPEG, …)"
        )
    return files
