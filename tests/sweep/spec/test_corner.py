"""The hypervolume's corner: the cost of raw symbols, the worth of the mean image."""

import math
from pathlib import Path

import numpy as np
import pytest

from rdmodels.config import make_trial
from rdmodels.data.images import ImageSet
from rdmodels.data.splits import Splits, load_splits
from rdmodels.errors import ConfigError
from rdmodels.results.quality import Corner, corner_of
from sweep.spec.corner import corner_text, make_corner, mean_image_quality, raw_bpp
from tests.conftest import write_photo
from tests.sweep.spec.test_spec import spec_with


def test_raw_symbols_of_the_largest_space_set_the_rate(digits: Splits) -> None:
    spec = spec_with("space.num_latent_channels=[4, 32, 16]")
    corner = make_corner(spec, digits)
    assert corner.bpp == pytest.approx(math.log2(6) * 32 / 64, rel=5e-3)
    more = spec_with("space.num_latent_channels=[4, 32, 16]", "space.num_centers=[4, 16]")
    assert make_corner(more, digits).bpp == pytest.approx(4 * 32 / 64)


def test_the_filling_of_odd_sizes_is_paid_for() -> None:
    config = make_trial({"num_latent_channels": 16, "num_centers": 8})
    images = ImageSet(np.zeros((2, 1, 28, 28), np.uint8), ("a", "b"))
    assert raw_bpp(config, images) == pytest.approx(3 * 16 / 49)
    mixed = ImageSet((np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 9), np.uint8)), ("a", "b"))
    assert raw_bpp(config, mixed) == pytest.approx((48 / 64 + 2 * 48 / 72) / 2)


def test_the_mean_image_sets_the_quality(digits: Splits) -> None:
    train, validation = digits.train.stacked, digits.validation.stacked
    assert train is not None
    assert validation is not None
    mean = np.round(train.mean(axis=0))
    errors = ((validation - mean) / 255.0) ** 2
    expected = np.mean([-10 * np.log10(image.mean()) for image in errors])
    assert mean_image_quality(digits, "mse") == pytest.approx(expected, abs=1e-3)
    assert make_corner(spec_with(), digits).quality_db == pytest.approx(expected, abs=0.05)


def test_images_of_several_sizes_have_a_mean_colour(tmp_path: Path) -> None:
    for index in range(8):
        write_photo(tmp_path / f"{index}.png", 40 + index, 50, seed=index)
    config = make_trial({"dataset": f"folder:{tmp_path}", "crop_size": 32})
    splits = load_splits(config)
    pixels = np.concatenate([image.reshape(3, -1) for image in splits.train.images], axis=1)
    colour = np.round(pixels.mean(axis=1))[:, None, None]
    errors = [np.mean(((image - colour) / 255.0) ** 2) for image in splits.validation.images]
    expected = np.mean([-10 * np.log10(error) for error in errors])
    assert mean_image_quality(splits, "mse") == pytest.approx(expected, abs=1e-3)


def test_ms_ssim_has_a_corner_in_its_own_db(tmp_path: Path) -> None:
    for index in range(3):
        write_photo(tmp_path / f"{index}.png", 176, 176, seed=index)
    config = make_trial({"dataset": f"folder:{tmp_path}", "crop_size": 168})
    quality = mean_image_quality(load_splits(config), "ms_ssim")
    assert 0 < quality < 10


def test_a_corner_that_is_given_is_taken(digits: Splits) -> None:
    spec = spec_with("hypervolume_reference={bpp: 3, psnr_db: 12.5}")
    assert make_corner(spec, digits) == Corner(3.0, 12.5)
    assert corner_text(spec, Corner(3.0, 12.5)) == (
        "Hypervolume from 3 bpp, PSNR 12.5 dB (as given)"
    )
    assert "raw symbols; the mean image" in corner_text(spec_with(), Corner(3.0, 12.5))
    with pytest.raises(ConfigError, match=r"needs bpp and psnr_db.*add psnr_db"):
        spec_with("hypervolume_reference={bpp: 3}")
    with pytest.raises(ConfigError, match=r"hypervolume_reference\.bpp"):
        spec_with("hypervolume_reference={bpp: 0, psnr_db: 1}")
    with pytest.raises(ValueError, match="above 0"):
        corner_of({"bpp": 0.0, "psnr_db": 1.0}, "mse")
