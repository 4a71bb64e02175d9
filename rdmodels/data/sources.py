"""Where images come from: scikit-learn's digits, torchvision's sets, CIFAR-10, folders.

A source knows its images by name and by a hash of their content, and reads those it is asked for.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rdmodels.config import FOLDER_PREFIX
from rdmodels.data.images import ImageSet, Pixels, decode_file, is_grey_file, planes
from rdmodels.errors import DatasetError

DIGITS_SIZE = 32
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_FOLDER = "cifar-10-batches-bin"
IMAGE_SUFFIXES = frozenset(Image.registered_extensions())

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Images that can be read. `hashes` are SHA-256 digests of their contents, in order.

    read: the images at given indices, in that order.
    """

    names: tuple[str, ...]
    hashes: tuple[bytes, ...]
    read: Callable[[Sequence[int]], ImageSet]

    def __len__(self) -> int:
        return len(self.names)


def array_source(pixels: Pixels, names: tuple[str, ...]) -> Source:
    """The images of one array (N, channels, H, W)."""
    hashes = tuple(hashlib.sha256(image.tobytes()).digest() for image in pixels)
    whole = ImageSet(pixels, names)
    return Source(names, hashes, whole.take)


def digits_source() -> Source:
    """scikit-learn's bundled handwritten digits, enlarged from 8x8 to 32x32."""
    from sklearn.datasets import load_digits

    small = np.round(load_digits().images * (255.0 / 16.0)).astype(np.uint8)
    size = (DIGITS_SIZE, DIGITS_SIZE)
    images = [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC) for image in small]
    names = tuple(f"digit-{index:04d}" for index in range(len(images)))
    enlarged = ImageSet(np.stack([planes(image, "L") for image in images]), names)
    # Of the images as they come: enlarging may differ by a level between versions of Pillow.
    hashes = tuple(hashlib.sha256(image.tobytes()).digest() for image in small)
    return Source(names, hashes, enlarged.take)


def mnist_sources(name: str, root: Path, *, download: bool) -> tuple[Source, Source]:
    """Training and test images of MNIST or Fashion-MNIST under `root`.

    Raises:
        DatasetError: if they are not there, and not to be downloaded or cannot be.
    """
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[name]
    loaded = [_torchvision(kind, name, root, train, download) for train in (True, False)]
    train, test = (
        array_source(part.data.numpy()[:, None], _numbered(f"{name}-{split}", len(part.data)))
        for part, split in zip(loaded, ("train", "test"), strict=True)
    )
    return train, test


def _torchvision(kind: Any, name: str, root: Path, train: bool, download: bool) -> Any:
    try:
        return kind(str(root), train=train, download=False)
    except RuntimeError as error:
        if not download:
            raise _missing(name, root) from error
        logger.info("%s is not under %s, downloading it", name, root.resolve())
    try:
        return kind(str(root), train=train, download=True)
    except (RuntimeError, OSError) as error:
        raise _not_downloaded(name, root, error) from error


def _missing(name: str, root: Path) -> DatasetError:
    return DatasetError(f"dataset {name} is not under data_dir {root.resolve()}")


def _not_downloaded(name: str, root: Path, error: Exception) -> DatasetError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return DatasetError(
        f"dataset {name} is not under data_dir {root.resolve()} and cannot be downloaded"
        f" ({reason}): point data_dir at a copy, or use dataset: digits, which needs no network"
    )


def cifar10_sources(root: Path, *, download: bool) -> tuple[Source, Source]:
    """Training and test images of CIFAR-10 under `root`.

    Raises:
        DatasetError: if they are not there, and not to be downloaded or cannot be.
    """
    # The binary version: torchvision's own reader unpickles the Python version.
    from torchvision.datasets.utils import download_and_extract_archive

    folder = root / CIFAR10_FOLDER
    files = [folder / f"data_batch_{part}.bin" for part in range(1, 6)] + [
        folder / "test_batch.bin"
    ]
    if not all(file.exists() for file in files):
        if not download:
            raise _missing("cifar10", root)
        try:
            download_and_extract_archive(CIFAR10_URL, str(root), md5=CIFAR10_MD5)
        except (RuntimeError, OSError) as error:
            raise _not_downloaded("cifar10", root, error) from error
    parts = [_read_cifar10(file) for file in files]
    train = np.concatenate(parts[:5])
    return (
        array_source(train, _numbered("cifar10-train", len(train))),
        array_source(parts[5], _numbered("cifar10-test", len(parts[5]))),
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


def folder_sources(path: Path, color: str) -> tuple[Source, Source | None]:
    """A folder's images, and those of its `test` (or else `val`) beside `train`, if it is so cut.

    Raises:
        DatasetError: if it is no folder, or has no image, or one that cannot be read.
    """
    if not path.is_dir():
        raise DatasetError(f"dataset {FOLDER_PREFIX}{path}: {path.resolve()} is not a folder")
    tests = [path / name for name in ("test", "val") if (path / name).is_dir()]
    if not ((path / "train").is_dir() and tests):
        files = _image_files(path)
        return _files_source(path, files, _pillow_mode(files, color)), None
    train, test = _image_files(path / "train"), _image_files(tests[0])
    mode = _pillow_mode(train + test, color)
    return _files_source(path, train, mode), _files_source(path, test, mode)


def _pillow_mode(files: list[Path], color: str) -> str:
    grey = color == "grey" or (color == "auto" and all(map(is_grey_file, files)))
    return "L" if grey else "RGB"


def _files_source(root: Path, files: list[Path], mode: str) -> Source:
    names = tuple(str(file.relative_to(root)) for file in files)
    hashes = tuple(hashlib.sha256(file.read_bytes()).digest() for file in files)

    def read(indices: Sequence[int]) -> ImageSet:
        images = tuple(planes(decode_file(files[index]), mode) for index in indices)
        same = len({image.shape for image in images}) == 1
        stacked = np.stack(images) if same else images
        return ImageSet(stacked, tuple(names[index] for index in indices))

    return Source(names, hashes, read)


def _image_files(path: Path) -> list[Path]:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DatasetError(
            f"{path.resolve()} has no image: put files that Pillow reads there (PNG, JPEG, …)"
        )
    return files
