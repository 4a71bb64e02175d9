"""Reads a sweep: its directory and its trials in MLflow. Nobody else reads MLflow.

A sweep's directory holds `sweep.json` and `trials/<trial_id>/`; its parameters, metrics and tags
are in the tracking store that `sweep.json` names. Here they become one DataFrame, one row a trial.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from analysis.frontier import trial_order
from analysis.store.columns import FIGURES, trial_columns
from analysis.store.connection import connected
from analysis.store.sweeps import store_uri
from rdmodels.errors import SweepReadError
from rdmodels.results.sweep import SweepInfo, read_info

STATUSES = ("complete", "pruned", "stopped", "failed", "running")
PAGE = 1000
LARGEST_FIGURE = 1e300
"""MLflow's SQL stores turn infinity into the largest float, which is no figure."""


@dataclass(frozen=True)
class Sweep:
    """A sweep as it stands in the tracking store.

    trials: one row a trial, with the columns of `trial_columns`. tracking_uri: where it was read,
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
    with connected(uri) as client:
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
    text = ["trial_id", "run_id", "status", "collapsed", "error"]
    return frame.astype(dict.fromkeys(text, "str"))[trial_columns(info)]


def _row(run: Run) -> dict[str, Any]:
    tags, metrics = run.data.tags, run.data.metrics
    status = tags.get("status", "running")
    # A complete trial's validation figures are those of the checkpoint that was tested.
    val = "best" if status == "complete" else "val"
    figures = {
        f"{split}_{name}": _figure(metrics.get(f"{source}/{name}"))
        for split, source in (("val", val), ("test", "test"))
        for name in FIGURES
    }
    return {
        "trial_id": _trial_id(run),
        "run_id": run.info.run_id,
        "status": status,
        "epochs_done": _epochs(run),
        "train_seconds": _figure(metrics.get("train/seconds")),
        **figures,
        "training_share": _share(metrics),
        "collapsed": tags.get("collapsed"),
        "error": tags.get("error"),
    }


def _figure(value: float | None) -> float:
    return value if value is not None and abs(value) < LARGEST_FIGURE else math.nan


def _share(metrics: Mapping[str, float]) -> float:
    """Of the trial's time so far, the share of training steps."""
    spent = [_figure(value) for key, value in metrics.items() if key.startswith("seconds/")]
    total = math.fsum(spent)
    return _figure(metrics.get("seconds/training")) / total if total else math.nan


def _typed(texts: Sequence[str | None], name: str) -> "pd.Series[Any]":
    """Logged parameters, which are texts, as integers, numbers, booleans or else texts."""
    texts = [None if text == "None" else text for text in texts]
    if name in ("beta", "h_target", "target_bpp"):
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
