import math
from pathlib import Path

import pytest
import torch

from rdmodels import metrics
from rdmodels.errors import ConfigError
from rdmodels.results.images import (
    ImageResult,
    LatentUse,
    read_images,
    summarise,
    write_images,
)
from rdmodels.results.trial import Metrics, metric_keys

MISSING = {"ms_ssim": None, "ms_ssim_db": None}


def image(**values: float | None) -> ImageResult:
    base = {"name": "x", "pixels": 100, "symbols": 10, "bits_estimated": 50.0, "mse": 0.01}
    return ImageResult(**{**base, "psnr_db": 20.0, "ssim": 0.5, **MISSING, **values})


def means_of(images: list[ImageResult]) -> Metrics:
    return summarise(images, LatentUse(0.3, 6, 1.2), rate_over_target=1.0, loss=0.0)


def test_psnr_is_averaged_over_images_not_taken_of_the_mean() -> None:
    images = [image(mse=m, psnr_db=metrics.psnr_db(m)) for m in (0.1, 0.0001)]
    means = means_of(images)
    assert means.psnr_db == pytest.approx(25.0)
    assert metrics.psnr_db(means.mse) == pytest.approx(13.0, abs=0.01)


def test_bpp_is_averaged_per_image() -> None:
    images = [image(bits_estimated=100.0), image(pixels=1000, bits_estimated=100.0)]
    assert means_of(images).bpp_estimated == pytest.approx((1.0 + 0.1) / 2)
    assert means_of(images).bpp is None
    written = [image(bits_written=80.0), image(pixels=1000, bits_written=160.0)]
    assert means_of(written).bpp == pytest.approx((0.8 + 0.16) / 2)


def test_a_lossless_image_has_no_psnr_and_drops_out_of_the_mean() -> None:
    assert metrics.psnr_db(0.0) is None
    lossless = image(mse=0.0, psnr_db=None)
    assert means_of([lossless, image()]).psnr_db == 20.0
    assert means_of([lossless]).psnr_db is None


def test_ms_ssim_exists_only_for_large_images() -> None:
    assert not metrics.has_ms_ssim(160, 500)
    small = torch.rand(1, 1, 160, 160)
    with pytest.raises(ValueError, match="161 px"):
        metrics.ms_ssim(small, small)
    large = torch.rand(1, 3, 161, 170)
    assert metrics.ms_ssim(large, large).item() == pytest.approx(1.0)
    assert metrics.ssim(torch.rand(2, 1, 10, 10), torch.rand(2, 1, 10, 10)) is None


def test_ms_ssim_in_db_is_averaged_over_images_not_taken_of_the_mean() -> None:
    images = [image(ms_ssim=m, ms_ssim_db=metrics.ms_ssim_db(m)) for m in (0.9, 0.999)]
    means = means_of(images)
    assert means.ms_ssim_db == pytest.approx(20.0)
    assert metrics.ms_ssim_db(means.ms_ssim or 0) == pytest.approx(12.97, abs=0.01)


def test_the_table_of_images_comes_back(tmp_path: Path) -> None:
    images = [image(name="a", bits_written=80.0), image(name="b", ms_ssim=0.5)]
    write_images(tmp_path / "t.parquet", images)
    assert read_images(tmp_path / "t.parquet") == images
    with pytest.raises(ConfigError, match="is not there"):
        read_images(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match="no per-image table"):
        read_images(tmp_path / "bad.parquet")


def test_ms_ssim_in_db() -> None:
    assert metrics.ms_ssim_db(0.99) == pytest.approx(20.0)
    assert metrics.ms_ssim_db(1.0) is None


def test_rounding_is_to_what_eight_bits_hold() -> None:
    x = torch.tensor([-0.2, 0.0, 0.5, 1.0, 1.3])
    assert (metrics.round_to_8_bits(x) * 255).tolist() == [0, 0, 128, 255, 255]
    assert metrics.to_uint8(x).tolist() == [0, 0, 128, 255, 255]
    assert math.isclose(metrics.mse(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item(), 1.0)


def test_metric_keys_are_the_records_fields() -> None:
    keys = metric_keys()
    assert len(keys) == len(set(keys))
    for key in ("train/loss", "train/images_per_second", "val/mse", "val/psnr_db"):
        assert key in keys
    # Nothing is written while a trial trains.
    assert "val/bpp_estimated" in keys
    assert not {"val/bpp", "val/bpp_standalone"} & set(keys)
    for key in ("val/ssim", "best/bpp", "test/bpp", "test/psnr_db"):
        assert key in keys
