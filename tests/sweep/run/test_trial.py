"""What a trial reports to the search: what it minimises, and what the frontier maximises."""

import dataclasses
from pathlib import Path

import pytest

from rdmodels.config import TrialConfig, override
from sweep.run.trial import objective, quality, write_start
from sweep.tracking.spool import FOLDER, Spool, last_record
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


@pytest.mark.parametrize(
    ("values", "h_target", "target_bpp"),
    [
        ({}, "1.0", "None"),
        ({"h_target": 0.5}, "0.5", "None"),
        ({"target_bpp": 0.2}, "None", "0.2"),
    ],
)
def test_a_run_tells_the_target_that_its_trial_has(
    values: dict[str, float],
    h_target: str,
    target_bpp: str,
    small_config: TrialConfig,
    tmp_path: Path,
) -> None:
    base = override(small_config, {"h_target": None})
    write_start(Spool(tmp_path, "t0000"), "t0000", base, values)
    record = last_record(tmp_path / FOLDER / "t0000.jsonl")
    assert record is not None
    assert record["params"]["h_target"] == h_target
    assert record["params"]["target_bpp"] == target_bpp
