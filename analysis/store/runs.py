"""Reads a sweep: its directory and its trials in MLflow. Nobody else reads MLflow.

A sweep's directory holds `sweep.json` and `trials/<trial_id>/`; its parameters, metrics and tags
are in the tracking store that `sweep.json` names. Here they become one DataFrame, one row a trial.
"""

import logging
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from analysis.frontier import trial_order
from analysis.store.sweeps import check_store_file, store_uri
from rdmodels.errors import SweepReadError
from rdmodels.results.sweep import TRIALS, SweepInfo, read_info
from rdmodels.results.trial import metric_keys

RECONSTRUCTIONS = "reconstructions.png"
STATUSES = ("complete", "pruned", "stopped", "failed", "running")
PAGE = 1000
SHORT_TIMEOUTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Used where the environment says nothing: MLflow's own defaults block for minutes."""

LARGEST_FIGURE = 1e300
"""MLflow's SQL stores turn infinity into the largest float, which is no figure."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """A sweep as it stands in the tracking store.

    trials: one row a trial, columns as `columns` gives them. tracking_uri: where it was read,
    which is not what `sweep.json` says if the folder was moved. status: the parent run's, None if
    there is none. seconds: from the parent's start to its end, None while it runs. shared:
    parameters, not searched, that are the same in every trial.
    """

    directory: Path
    info: SweepInfo
    trials: pd.DataFrame
    tracking_uri: str = ""
    status: str | None = None
    seconds: float | None = None
    shared: Mapping[str, str] = field(default_factory=dict)


def read_sweep(directory: Path) -> Sweep:
    """The sweep in `directory`, its trials read from the tracking store.

    Raises:
        SweepReadError: if `directory` holds no sweep, its store does not answer, or the store has
            no trial of it.
    """
    info = read_info(directory)
    uri = store_uri(directory, info)
    with _store_errors(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        runs = _search(client, info, "trial")
        parents = _search(client, info, "sweep")
    if not runs:
        raise SweepReadError(
            f"sweep {info.sweep_id} has no trial in {uri}: has the sweep been started, and does"
            f" its experiment {info.experiment_id} still exist?"
        )
    parent = parents[0] if parents else None
    trials = _deduplicated(runs)
    return Sweep(
        directory=directory,
        info=info,
        trials=_frame(trials, info),
        tracking_uri=uri,
        status=parent.data.tags.get("status") if parent else None,
        seconds=_seconds(parent) if parent else None,
        shared=_shared([run.data.params for run in trials], info),
    )


def reconstructions(sweep: Sweep, trial_id: str) -> bytes | None:
    """The PNG of a trial's originals above their reconstructions; None if it has none.

    The sweep's directory is asked first: it costs nothing and survives a move of the folder. The
    run's artifact is the same picture.

    Raises:
        SweepReadError: if the sweep has no trial of that id.
    """
    found = sweep.trials.loc[sweep.trials["trial_id"] == trial_id, "run_id"].tolist()
    if not found:
        raise SweepReadError(f"sweep {sweep.info.sweep_id} has no trial {trial_id!r}")
    file = sweep.directory / TRIALS / trial_id / RECONSTRUCTIONS
    if file.is_file():
        return file.read_bytes()
    uri = sweep.tracking_uri or store_uri(sweep.directory, sweep.info)
    with _short_timeouts(), tempfile.TemporaryDirectory() as folder:
        try:
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            return Path(client.download_artifacts(found[0], RECONSTRUCTIONS, folder)).read_bytes()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            logger.info("trial %s has no %s: %s", trial_id, RECONSTRUCTIONS, error)
            return None


def download_model(uri: str, tracking_uri: str, folder: Path) -> Path:
    """Fetch a trial's model into `folder`; returns the directory its files are in.

    Args:
        uri: `models:/MODEL_ID`, or `runs:/RUN_ID`, whose trial's model is taken.

    Raises:
        SweepReadError: if there is no such model, or the store does not answer.
    """
    check_store_file(tracking_uri)
    with _store_errors(tracking_uri):
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
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


def columns(info: SweepInfo) -> list[str]:
    """Columns of a sweep's trials, in order."""
    figures = [f"{split}_{name}" for split in ("val", "test") for name in figure_names()]
    return [
        *("trial_id", "run_id", "status"),
        *info.fields,
        *("epochs", "train_seconds"),
        *figures,
        "error",
    ]


def figure_names() -> list[str]:
    """Names of the figures that a complete trial has on validation and on test images."""
    first = ["bpp", "psnr_db", "mse", "ssim", "ms_ssim"]
    keys = [key.split("/", 1) for key in metric_keys()]
    names = [name for split, name in keys if split in ("best", "test") and name != "epoch"]
    return list(dict.fromkeys([*(name for name in first if name in names), *names]))


@contextmanager
def _short_timeouts() -> Iterator[None]:
    """Have MLflow give up on a dead server within seconds, unless the environment says else."""
    added = [key for key in SHORT_TIMEOUTS if key not in os.environ]
    os.environ.update({key: SHORT_TIMEOUTS[key] for key in added})
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


@contextmanager
def _store_errors(uri: str) -> Iterator[None]:
    with _short_timeouts():
        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise SweepReadError(f"tracking store {uri} does not answer: {reason}") from error


def _search(client: MlflowClient, info: SweepInfo, role: str) -> list[Run]:
    """Every run of the sweep in that role, each once: pages shift while a sweep is live."""
    query = f"tags.sweep_id = '{info.sweep_id}' and tags.role = '{role}'"
    runs: dict[str, Run] = {}
    token: str | None = None
    while True:
        page = client.search_runs([info.experiment_id], query, max_results=PAGE, page_token=token)
        runs |= {run.info.run_id: run for run in page}
        token = page.token
        if not token:
            return list(runs.values())


def _deduplicated(runs: Sequence[Run]) -> list[Run]:
    """One run a trial, by trial id: a request that was sent twice leaves an empty second run."""

    def worth(run: Run) -> tuple[bool, int, int]:
        complete = run.data.tags.get("status") == "complete"
        return complete, _epochs(run), run.info.start_time or 0

    best = {_trial_id(run): run for run in sorted(runs, key=worth)}
    return [best[trial_id] for trial_id in sorted(best, key=trial_order)]


def _trial_id(run: Run) -> str:
    return str(run.data.tags.get("trial_id", run.info.run_id))


def _epochs(run: Run) -> int:
    """Epochs with validation figures; the step of a metric is its epoch, from 0."""
    steps = [metric.step for metric in run.data.to_proto().metrics if metric.key[:4] == "val/"]
    return max(steps, default=-1) + 1


def _seconds(run: Run) -> float | None:
    if run.info.end_time is None:
        return None
    return float(run.info.end_time - run.info.start_time) / 1000


def _frame(runs: Sequence[Run], info: SweepInfo) -> pd.DataFrame:
    rows = [_row(run) for run in runs]
    frame = pd.DataFrame(rows)
    for name in info.fields:
        frame[name] = _typed([run.data.params.get(name) for run in runs], name)
    text = ["trial_id", "run_id", "status", "error"]
    return frame.astype(dict.fromkeys(text, "str"))[columns(info)]


def _row(run: Run) -> dict[str, Any]:
    tags, metrics = run.data.tags, run.data.metrics
    status = tags.get("status", "running")
    # A complete trial's validation figures are those of the checkpoint that was tested.
    val = "best" if status == "complete" else "val"
    figures = {
        f"{split}_{name}": _figure(metrics.get(f"{source}/{name}"))
        for split, source in (("val", val), ("test", "test"))
        for name in figure_names()
    }
    if val == "val":
        # While training the rate is an estimate; `val_bpp` is bytes.
        figures["val_bpp_estimated"] = figures["val_bpp"]
        figures["val_bpp"] = math.nan
    return {
        "trial_id": _trial_id(run),
        "run_id": run.info.run_id,
        "status": status,
        "epochs": _epochs(run),
        "train_seconds": _figure(metrics.get("train/seconds")),
        **figures,
        "error": tags.get("error"),
    }


def _figure(value: float | None) -> float:
    return value if value is not None and abs(value) < LARGEST_FIGURE else math.nan


def _typed(texts: Sequence[str | None], name: str) -> "pd.Series[Any]":
    """Logged parameters, which are texts, as integers, numbers, booleans or else texts."""
    texts = [None if text == "None" else text for text in texts]
    if name in ("beta", "h_target"):
        return pd.Series([math.nan if t is None else float(t) for t in texts], dtype="float64")
    if set(texts) <= {"True", "False", None}:
        return pd.Series([t if t is None else t == "True" for t in texts], dtype="boolean")
    for kind, dtype in ((int, "Int64"), (float, "float64")):
        try:
            return pd.Series([None if t is None else kind(t) for t in texts], dtype=dtype)
        except ValueError:
            continue
    return pd.Series(list(texts), dtype="str")


def _shared(params: Sequence[Mapping[str, str]], info: SweepInfo) -> dict[str, str]:
    known = [each for each in params if each]
    if not known:
        return {}
    return {
        name: value
        for name, value in known[0].items()
        if name not in info.space and all(each.get(name) == value for each in known)
    }
