"""Files that trials left in the sweep's folder or in MLflow: pictures, image tables, models."""

import logging
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Literal

import pandas as pd
from mlflow.artifacts import download_artifacts

from analysis.store.connection import connected
from analysis.store.runs import Sweep
from analysis.store.sweeps import check_store_file, store_uri
from rdmodels.errors import SweepReadError
from rdmodels.results.images import TEST_IMAGES, VALIDATION_IMAGES, ImageResult, read_images
from rdmodels.results.sweep import TRIALS

RECONSTRUCTIONS = "reconstructions.png"
IMAGE_TABLES = {"validation": VALIDATION_IMAGES, "test": TEST_IMAGES}

logger = logging.getLogger(__name__)


def reconstructions(sweep: Sweep, trial_id: str) -> bytes | None:
    """The PNG of a trial's originals above their reconstructions; None if it has none.

    The sweep's directory is asked first: it costs nothing and survives a move of the folder. The
    run's artifact is the same picture.

    Raises:
        SweepReadError: if the sweep has no trial of that id.
    """
    run_id = _run_id(sweep, trial_id)
    file = sweep.directory / TRIALS / trial_id / RECONSTRUCTIONS
    if file.is_file():
        return file.read_bytes()
    uri = sweep.tracking_uri or store_uri(sweep.directory, sweep.info)
    try:
        with tempfile.TemporaryDirectory() as folder, connected(uri) as client:
            return Path(client.download_artifacts(run_id, RECONSTRUCTIONS, folder)).read_bytes()
    except SweepReadError as error:
        logger.info("trial %s has no %s: %s", trial_id, RECONSTRUCTIONS, error)
        return None


def image_table(
    sweep: Sweep, trial_id: str, split: Literal["validation", "test"]
) -> pd.DataFrame | None:
    """Rate and quality of every image of a split, in order; None if the trial left no table.

    Columns are the fields of `rdmodels.results.images.ImageResult`.

    Raises:
        SweepReadError: if the sweep has no trial of that id.
        ConfigError: if the table is damaged, or has other columns.
    """
    _run_id(sweep, trial_id)
    file = sweep.directory / TRIALS / trial_id / IMAGE_TABLES[split]
    if not file.is_file():
        return None
    return pd.DataFrame(read_images(file), columns=[field.name for field in fields(ImageResult)])


def download_model(uri: str, tracking_uri: str, folder: Path) -> Path:
    """Fetch a trial's model into `folder`; returns the directory its files are in.

    Args:
        uri: `models:/MODEL_ID`, or `runs:/RUN_ID`, whose trial's model is taken.

    Raises:
        SweepReadError: if there is no such model, or the store does not answer.
    """
    check_store_file(tracking_uri)
    with connected(tracking_uri) as client:
        if uri.startswith("runs:/"):
            run = client.get_run(uri.removeprefix("runs:/").split("/")[0])
            if "model_uri" not in run.data.tags:
                raise SweepReadError(f"{uri} has no model: is its trial complete?")
            uri = run.data.tags["model_uri"]
        # By its location: given the model's URI, MLflow would ask its default store instead.
        location = client.get_logged_model(uri.removeprefix("models:/")).artifact_location
        found = download_artifacts(
            artifact_uri=location, dst_path=str(folder), tracking_uri=tracking_uri
        )
    return Path(found)


def _run_id(sweep: Sweep, trial_id: str) -> str:
    found = sweep.trials.loc[sweep.trials["trial_id"] == trial_id, "run_id"].tolist()
    if not found:
        raise SweepReadError(f"sweep {sweep.info.sweep_id} has no trial {trial_id!r}")
    return str(found[0])
