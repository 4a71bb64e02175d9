"""Fixtures that several rooms share: small data, a small trained model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rdmodels.config import TrialConfig, make_trial
from rdmodels.data.splits import Splits, load_splits
from rdmodels.results.data import DataFingerprint, SplitFingerprint
from rdmodels.results.quality import Corner
from rdmodels.results.trial import Metrics
from rdmodels.training.finish import finish
from rdmodels.training.fit import fit

torch.set_num_threads(1)

SMALL = {
    "width": 8,
    "groups": 1,
    "num_latent_channels": 4,
    "context_features": 8,
    "epochs": 2,
    "beta": 0.01,
    "train_images": 200,
    "test_images": 40,
}

CORNER = Corner(2.0, 10.0)
"""Of a hypervolume, where a test needs some."""
_SPLIT = SplitFingerprint(images=9, sha256="0")
DATA = DataFingerprint(train=_SPLIT, validation=_SPLIT, test=_SPLIT)
"""Of a data set, where a test needs some."""


SOUND = Metrics(
    bpp=0.21,
    bpp_standalone=0.3,
    bpp_estimated=0.2,
    bits_per_symbol_estimated=0.8,
    rate_over_target=1.02,
    mse=0.01,
    psnr_db=20.0,
    ssim=None,
    ms_ssim=None,
    ms_ssim_db=None,
    importance=0.3,
    centers_used=5,
    symbol_entropy=1.2,
    loss=0.01,
)
"""Figures of small images, as a codec has them with which nothing is wrong."""


@pytest.fixture(scope="session")
def small_config() -> TrialConfig:
    return make_trial(SMALL)


@pytest.fixture(scope="session")
def digits(small_config: TrialConfig) -> Splits:
    return load_splits(small_config)


@pytest.fixture(scope="session")
def trained(
    small_config: TrialConfig, digits: Splits, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The directory of a small model trained on digits."""
    directory = tmp_path_factory.mktemp("trained")
    list(fit(small_config, digits, directory))
    finish(directory, digits)
    return directory


def write_photo(path: Path, height: int, width: int, seed: int = 0, mode: str = "RGB") -> None:
    """A smooth random picture as an image file."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert(mode).save(path)
