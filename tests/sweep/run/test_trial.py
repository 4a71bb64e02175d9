"""What a trial reports to the search: what it minimises, and what the frontier maximises."""

import dataclasses

import pytest

from sweep.run.trial import objective, quality
from tests.conftest import SOUND

MEANS = dataclasses.replace(SOUND, psnr_db=21.0, ms_ssim=0.9, ms_ssim_db=11.0)


def test_the_search_minimises_the_distortion_that_is_trained_on() -> None:
    assert objective(MEANS, "mse") == 0.01
    assert objective(MEANS, "ms_ssim") == pytest.approx(0.1)
    better = dataclasses.replace(MEANS, ms_ssim=0.95)
    assert objective(better, "ms_ssim") < objective(MEANS, "ms_ssim")


def test_the_frontier_maximises_the_quality_in_db_that_goes_with_it() -> None:
    assert quality(MEANS, "mse") == 21.0
    assert quality(MEANS, "ms_ssim") == 11.0
    lossless = dataclasses.replace(MEANS, psnr_db=None)
    assert quality(lossless, "mse") is None
