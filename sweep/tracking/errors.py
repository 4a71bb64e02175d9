"""What an error of the tracking store means: the store's trouble, one run's, or one record's.

The store's trouble (no connection, no answer in time) stops everything for a while. Any answer is
about one run, and its records wait: a token expires, a proxy or a host check is mended. Only what
can never succeed is final: MLflow says that the record itself is invalid, or its file is gone.
"""

from collections.abc import Iterator

import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

BAD_REQUEST = 400
OF_THE_STORE = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.InvalidURL,
    OperationalError,
    ConnectionError,
    TimeoutError,
)
OF_A_DATABASE = "https://sqlalche.me/"
"""In every message of SQLAlchemy: MLflow answers 400 when its database is busy or lost, too."""

TOO_LARGE = "error code 413 "
"""In MLflow's message when a proxy finds a request too large: fewer records may pass."""


class RecordError(Exception):
    """A record that no request can be made of."""


def is_store_error(error: BaseException) -> bool:
    """Whether the store was not reached, or did not answer in time."""
    return any(isinstance(each, OF_THE_STORE) for each in _chain(error))


def is_rejection(error: BaseException) -> bool:
    """Whether sending the same records again can never help."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code == requests.codes.request_entity_too_large
    if not isinstance(error, MlflowException):
        return isinstance(error, RecordError)
    if TOO_LARGE in str(error):
        return True
    status = error.get_http_status_code()  # type: ignore[no-untyped-call]
    return bool(status == BAD_REQUEST) and OF_A_DATABASE not in str(error)


def is_missing(error: BaseException) -> bool:
    """Whether MLflow itself, and no proxy before it, says that a thing does not exist."""
    return isinstance(error, MlflowException) and error.error_code == "RESOURCE_DOES_NOT_EXIST"


def reason(error: BaseException) -> str:
    """An error's message as one line, 300 characters at most."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def _chain(error: BaseException) -> Iterator[BaseException]:
    # MLflow raises its own error while it handles that of `requests` or SQLAlchemy.
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__
