"""The MLflow store: found, checked, its experiment opened, its runs created."""

import getpass
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Param

from rdmodels.errors import TrackingError
from rdmodels.results.sweep import STORE_FILE

SQLITE = "sqlite:///"
PARAMS_PER_REQUEST = 100


def default_tracking_uri(sweep: Path) -> str:
    """The SQLite store beside the sweep's directory: one for all sweeps there."""
    return f"sqlite:///{sweep.resolve().parent / STORE_FILE}"


def absolute_uri(tracking_uri: str) -> str:
    """`tracking_uri`, with a SQLite file's path made absolute: it is read from other folders."""
    if not tracking_uri.startswith(SQLITE):
        return tracking_uri
    return f"{SQLITE}{Path(tracking_uri.removeprefix(SQLITE)).resolve()}"


def check_store(tracking_uri: str) -> None:
    """Raise TrackingError if a server does not answer; changes nothing."""
    if tracking_uri.startswith(SQLITE):
        return
    try:
        make_client(tracking_uri).search_experiments(max_results=1)
    except Exception as error:
        raise unreachable(tracking_uri, error) from error


def unreachable(tracking_uri: str, error: Exception) -> TrackingError:
    """What to tell a user of a store that does not answer."""
    reason = " ".join(str(error).split())[:300]
    return TrackingError(
        f"the MLflow store {tracking_uri} does not answer ({reason}): start it, or leave"
        " --tracking-uri out to log to a local SQLite file"
    )


def make_client(tracking_uri: str) -> MlflowClient:
    """A client of `tracking_uri` that takes nothing from MLflow's defaults."""
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def open_experiment(tracking_uri: str, name: str, artifacts: Path) -> tuple[MlflowClient, str]:
    """A client and the id of experiment `name`, created if it is not there.

    Args:
        artifacts: where a SQLite store keeps files; a server decides for itself.

    Raises:
        TrackingError: if the store does not answer.
    """
    local = tracking_uri.startswith(SQLITE)
    try:
        if local:
            Path(tracking_uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        client = make_client(tracking_uri)
        known = client.get_experiment_by_name(name)
        if known is not None:
            if known.lifecycle_stage == "deleted":
                client.restore_experiment(known.experiment_id)
            return client, known.experiment_id
        location = artifacts.resolve().as_uri() if local else None
        return client, client.create_experiment(name, artifact_location=location)
    except Exception as error:
        # SQLAlchemy, requests and MLflow itself each have their own errors here.
        raise unreachable(tracking_uri, error) from error


def create_parent(
    client: MlflowClient, experiment_id: str, sweep_id: str, name: str, params: Mapping[str, Any]
) -> str:
    """The sweep's own run, parent of its trials; returns its id."""
    tags = {"role": "sweep", "sweep_id": sweep_id, "status": "running", **origin_tags()}
    run = client.create_run(experiment_id, tags=tags, run_name=name)
    log_params(client, run.info.run_id, {key: str(value) for key, value in params.items()})
    return str(run.info.run_id)


def origin_tags() -> dict[str, str]:
    """The tags MLflow's UI shows as user and source."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    tags = {"mlflow.user": user, "mlflow.source.name": "rdsweep", "mlflow.source.type": "LOCAL"}
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return tags
    return {**tags, "mlflow.source.git.commit": commit.stdout.strip()}


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    """Log parameters, as many a request as a server takes."""
    items = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(items), PARAMS_PER_REQUEST):
        client.log_batch(run_id, params=items[start : start + PARAMS_PER_REQUEST])
