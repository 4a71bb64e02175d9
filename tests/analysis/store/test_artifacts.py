"""Pictures, per-image tables and models come from the folder, or else from MLflow."""

import shutil
from pathlib import Path

import pytest

from analysis.store.artifacts import download_model, image_table, reconstructions
from analysis.store.runs import read_sweep
from rdmodels.errors import ConfigError, SweepReadError
from rdmodels.results.images import TEST_IMAGES, VALIDATION_IMAGES, ImageResult, write_images
from tests.analysis.tracked import client_of, png, rewrite, set_tags


def test_reconstructions_come_from_the_folder_or_else_from_the_run(copied: Path) -> None:
    sweep = read_sweep(copied)
    (copied / "trials/t0001/reconstructions.png").write_bytes(b"the folder's")
    assert reconstructions(sweep, "t0001") == b"the folder's"
    shutil.rmtree(copied / "trials")
    assert reconstructions(sweep, "t0001") == png(1)
    assert reconstructions(sweep, "t0024") is None
    with pytest.raises(SweepReadError, match="no trial 't9'"):
        reconstructions(sweep, "t9")


def image(name: str, bits: float) -> ImageResult:
    return ImageResult(
        name=name,
        pixels=64,
        symbols=8,
        bits_estimated=bits,
        mse=0.01,
        psnr_db=20.0,
        ssim=None,
        ms_ssim=None,
        ms_ssim_db=None,
        bits_written=bits + 1,
        bits_standalone=bits + 100,
    )


def test_the_table_of_images_is_read_by_split(copied: Path) -> None:
    folder = copied / "trials/t0001"
    write_images(folder / TEST_IMAGES, [image("b", 2.0), image("a", 3.0)])
    write_images(folder / VALIDATION_IMAGES, [image("v", 4.0)])
    sweep = read_sweep(copied)
    test = image_table(sweep, "t0001", "test")
    assert test is not None
    assert test["name"].tolist() == ["b", "a"]
    assert test["bits_written"].tolist() == [3.0, 4.0]
    assert test["bits_standalone"].tolist() == [102.0, 103.0]
    assert test["ms_ssim_db"].isna().all()
    validation = image_table(sweep, "t0001", "validation")
    assert validation is not None
    assert validation["name"].tolist() == ["v"]
    assert list(validation) == list(test)


def test_a_table_that_is_not_there_or_damaged(copied: Path) -> None:
    sweep = read_sweep(copied)
    assert image_table(sweep, "t0000", "test") is None
    assert image_table(sweep, "t0024", "validation") is None
    with pytest.raises(SweepReadError, match="no trial 't9'"):
        image_table(sweep, "t9", "test")
    (copied / "trials/t0000" / TEST_IMAGES).write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match="no per-image table"):
        image_table(sweep, "t0000", "test")


def test_a_model_is_fetched_by_its_run_or_its_id(copied: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{copied.parent}/mlflow.db"
    rewrite(copied, tracking_uri=uri)
    client, info = client_of(copied)
    run_id, other = read_sweep(copied).trials["run_id"].tolist()[:2]
    model = client.create_logged_model(info["experiment_id"], "codec", source_run_id=run_id)
    (tmp_path / "config.json").write_text("{}")
    client.log_model_artifact(model.model_id, str(tmp_path / "config.json"))
    client.finalize_logged_model(model.model_id, "READY")
    set_tags(client, run_id, model_uri=f"models:/{model.model_id}")
    for index, name in enumerate((f"runs:/{run_id}", f"models:/{model.model_id}")):
        folder = tmp_path / str(index)
        folder.mkdir()
        assert (download_model(name, uri, folder) / "config.json").read_text() == "{}"
    with pytest.raises(SweepReadError, match="has no model: is its trial complete"):
        download_model(f"runs:/{other}", uri, tmp_path)
    with pytest.raises(SweepReadError, match="does not answer"):
        download_model("models:/m-none", uri, tmp_path)
    with pytest.raises(SweepReadError, match="not a tracking store"):
        download_model(f"runs:/{run_id}", f"sqlite:///{tmp_path}/none.db", tmp_path)
