"""The MLflow store: found, checked, its experiment opened, its parent runs created."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Param
from mlflow.exceptions import MlflowException

from rdmodels.errors import TrackingError
from rdmodels.results.sweep import STORE_FILE
from sweep.tracking.errors import reason
from sweep.tracking.lock import locked
from sweep.tracking.origin import origin_tags

SQLITE = "sqlite:///"
CREATION_SECONDS = 120.0
"""How long another process may take to make a new database: MLflow needs seconds, or many."""


def default_tracking_uri(sweep: Path) -> str:
    """The SQLite store beside the sweep's directory: one for all sweeps there."""
    return f"{SQLITE}{sweep.resolve().parent / STORE_FILE}"


def database_file(tracking_uri: str) -> Path | None:
    """The file of a SQLite store; None for a server."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return Path(tracking_uri.removeprefix(SQLITE).split("?")[0])


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
        raise store_error(tracking_uri, error) from error


def store_error(tracking_uri: str, error: Exception) -> TrackingError:
    """What to tell a user of a store that does not answer."""
    return TrackingError(
        f"the MLflow store {tracking_uri} does not answer ({reason(error)}): start it, or leave"
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
    local = database_file(tracking_uri) is not None
    try:
        with _creation_lock(tracking_uri):
            client = make_client(tracking_uri)
            known = client.get_experiment_by_name(name)
            if known is None:
                location = artifacts.resolve().as_uri() if local else None
                return client, _create_experiment(client, name, location)
            if known.lifecycle_stage == "deleted":
                client.restore_experiment(known.experiment_id)
            return client, known.experiment_id
    except Exception as error:
        # SQLAlchemy, requests and MLflow itself each have their own errors here.
        raise store_error(tracking_uri, error) from error


@contextmanager
def _creation_lock(tracking_uri: str) -> Iterator[None]:
    """Be the only launch that opens a SQLite store: two that make its tables at once both fail."""
    database = database_file(tracking_uri)
    if database is None:
        yield
        return
    with locked(database.with_name(f".{database.name}.lock"), CREATION_SECONDS):
        yield


def _create_experiment(client: MlflowClient, name: str, location: str | None) -> str:
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        known = client.get_experiment_by_name(name)
        # Another launch may have been first on a server.
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or known is None:
            raise
        return str(known.experiment_id)


def create_parent(
    client: MlflowClient, experiment_id: str, sweep_id: str, name: str, params: Mapping[str, Any]
) -> str:
    """The sweep's own run, parent of its trials; returns its id."""
    tags = {"role": "sweep", "sweep_id": sweep_id, "status": "running", **origin_tags()}
    run = client.create_run(experiment_id, tags=tags, run_name=name)
    client.log_batch(run.info.run_id, params=[Param(k, str(v)) for k, v in params.items()])
    return str(run.info.run_id)
