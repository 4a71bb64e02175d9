"""Connections to a tracking store: clients, short timeouts, errors in one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from rdmodels.errors import SweepReadError

SHORT_TIMEOUTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Used where the environment says nothing: MLflow's own defaults block for minutes."""

STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError, ImportError)
"""What a store that does not answer raises; ImportError for want of a database's driver."""


@contextmanager
def connected(uri: str) -> Iterator[MlflowClient]:
    """A client of the tracking store `uri` that gives up on a dead one within seconds.

    Raises:
        SweepReadError: on leaving, in place of any error of the store's.
    """
    with short_timeouts():
        try:
            yield MlflowClient(tracking_uri=uri, registry_uri=uri)
        except STORE_ERRORS as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise SweepReadError(f"tracking store {uri} does not answer: {reason}") from error


@contextmanager
def short_timeouts() -> Iterator[None]:
    """Have MLflow give up on a dead server within seconds, unless the environment says else."""
    added = [key for key in SHORT_TIMEOUTS if key not in os.environ]
    os.environ.update({key: SHORT_TIMEOUTS[key] for key in added})
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)
