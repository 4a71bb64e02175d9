"""What a sweep's directory remembers of its images."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rdmodels.data.splits import load_splits
from rdmodels.errors import SweepReadError
from rdmodels.results.sweep import SWEEP_FILE, SweepInfo, read_info
from sweep.directory import data_change
from sweep.spec.spec import make_spec
from tests.conftest import write_photo
from tests.sweep.spec.test_spec import BASE


def info_of(config: dict[str, Any]) -> SweepInfo:
    spec = make_spec(config)
    return SweepInfo(
        sweep_id="x-1",
        name="x",
        tracking_uri="sqlite:////nowhere/mlflow.db",
        experiment_id="1",
        parent_run_id="r",
        space=tuple(spec.space),
        distortion="mse",
        hypervolume_reference={"bpp": 2.0, "psnr_db": 10.0},
        data=load_splits(spec.base).fingerprint,
        created=datetime.now(UTC),
        config=config,
    )


def test_a_sweep_knows_when_its_images_have_changed(tmp_path: Path) -> None:
    for index in range(20):
        write_photo(tmp_path / "photos" / f"{index}.png", 40, 40, seed=index)
    trial = {**BASE["trial"], "dataset": f"folder:{tmp_path / 'photos'}", "crop_size": 32}
    info = info_of({**BASE, "trial": trial})
    assert data_change(info) is None
    count = info.data.train.images + info.data.validation.images + info.data.test.images
    assert count == 20
    for index in range(20, 40):
        write_photo(tmp_path / "photos" / f"{index}.png", 40, 40, seed=index)
    changes = data_change(info)
    assert changes is not None
    assert f"train ({info.data.train.images} images, now" in changes
    # Elsewhere the images are not there, and nothing is known of them.
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert data_change(info) is None


def test_a_sweep_file_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    info = info_of(BASE)
    file = tmp_path / SWEEP_FILE
    file.write_text(info.model_dump_json())
    assert read_info(tmp_path) == info
    for version in ("1", "3"):
        file.write_text(info.model_dump_json().replace('"version":2', f'"version":{version}'))
        with pytest.raises(SweepReadError, match=f"has version {version}, this program reads 2"):
            read_info(tmp_path)
    file.write_text(info.model_dump_json().replace('"version":2,', ""))
    with pytest.raises(SweepReadError, match="has version 1, this program reads 2"):
        read_info(tmp_path)
