"""Fixtures of this room, and the warnings of libraries that it lets pass."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.tracking import store
from sweep.tracking.flusher import Flusher
from tests.analysis.tracked import empty_store
from tests.sweep.tracking.tracked import Server, make_flusher, serving

# MLflow's and SQLAlchemy's own; their files and sockets are closed by the garbage collector.
IGNORED = (
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:.*:FutureWarning:mlflow",
    "ignore:.*:DeprecationWarning",
    "ignore:The ``noload`` loader strategy is deprecated",
)
NAMES = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for warning in IGNORED:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "sweeps" / "one"
    path.mkdir(parents=True)
    (path.parent / "mlflow.db").write_bytes(empty_store())
    return path


@pytest.fixture
def flusher(sweep: Path) -> Flusher:
    return make_flusher(sweep, store.default_tracking_uri(sweep))


@pytest.fixture(scope="session")
def serving_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("server")
    (root / "mlflow.db").write_bytes(empty_store())
    with serving(f"sqlite:///{root}/mlflow.db", root / "artifacts") as server:
        yield server


@pytest.fixture
def server(serving_store: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server without faults; its requests are counted from here on."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    serving_store.fault = None
    return serving_store


@pytest.fixture
def remote(server: Server, sweep: Path) -> Iterator[Flusher]:
    """A flusher to the server, in an experiment of its own."""
    flusher = make_flusher(sweep, server.uri, f"exp{next(NAMES)}")
    server.requests.clear()
    yield flusher
    server.fault = None
