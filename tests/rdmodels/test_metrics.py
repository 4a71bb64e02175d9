import math

import pytest
import torch

from rdmodels import metrics
from rdmodels.results.images import ImageResult, summarise
from rdmodels.results.trial import metric_keys


def image(**values: float | None) -> ImageResult:
    base = {"name": "x", "pixels": 100, "symbols": 10, "bits_estimated": 50.0, "mse": 0.01}
    return ImageResult(**{**base, "psnr_db": 20.0, "ssim": 0.5, "ms_ssim": None, **values})


def test_psnr_is_averaged_over_images_not_taken_of_the_mean() -> None:
    images = [image(mse=m, psnr_db=metrics.psnr_db(m)) for m in (0.1, 0.0001)]
    means = summarise(images, loss=0.0)
    assert means.psnr_db == pytest.approx(25.0)
    assert metrics.psnr_db(means.mse) == pytest.approx(13.0, abs=0.01)


def test_bpp_is_averaged_per_image() -> None:
    images = [image(bits_estimated=100.0), image(pixels=1000, bits_estimated=100.0)]
    assert summarise(images, loss=0.0).bpp == pytest.approx((1.0 + 0.1) / 2)


def test_a_lossless_image_has_no_psnr_and_drops_out_of_the_mean() -> None:
    assert metrics.psnr_db(0.0) is None
    lossless = image(mse=0.0, psnr_db=None)
    assert summarise([lossless, image()], loss=0.0).psnr_db == 20.0
    assert summarise([lossless], loss=0.0).psnr_db is None


def test_ms_ssim_exists_only_for_large_images() -> None:
    assert not metrics.has_ms_ssim(160, 500)
    small = torch.rand(1, 1, 160, 160)
    with pytest.raises(ValueError, match="161 px"):
        metrics.ms_ssim(small, small)
    large = torch.rand(1, 3, 161, 170)
    assert metrics.ms_ssim(large, large).item() == pytest.approx(1.0)
    assert metrics.ssim(torch.rand(2, 1, 10, 10), torch.rand(2, 1, 10, 10)) is None


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
    for key in ("train/loss", "train/images_per_second", "val/bpp", "val/mse", "val/psnr_db"):
        assert key in keys
    for key in ("val/ssim", "best/bpp", "test/bpp", "test/psnr_db"):
        assert key in keys
