"""A sweep's spools, flushers and stores for tests; a real MLflow server with faults."""

import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from sweep.tracking import store
from sweep.tracking.flusher import Flusher
from sweep.tracking.spool import Spool

Fault = Callable[[str, bytes], int | None]
"""From a request's path and body to the status it is answered with; None to let it pass."""

HANG_UP = -1
LOG_BATCH = "/runs/log-batch"


def make_flusher(sweep: Path, uri: str, name: str = "exp") -> Flusher:
    client, experiment = store.open_experiment(uri, name, sweep.parent / "artifacts")
    parent = store.create_parent(client, experiment, "s1", "s1", {"trials": 2})
    return Flusher(sweep, uri, experiment, parent, "s1")


def run_of(flusher: Flusher, trial_id: str) -> Run:
    (run,) = flusher.client.search_runs([flusher.experiment_id], f"tags.trial_id = '{trial_id}'")
    return run


def history_of(
    flusher: Flusher, trial_id: str, key: str = "val/bpp_estimated"
) -> list[tuple[int, float]]:
    """The steps and values of a trial's metric, as often as they were stored."""
    run = run_of(flusher, trial_id)
    history = flusher.client.get_metric_history(run.info.run_id, key)
    return sorted((metric.step, metric.value) for metric in history)


def spool_trial(sweep: Path, trial_id: str = "t0000", epochs: int = 3) -> Spool:
    spool = Spool(sweep, trial_id)
    spool.start(f"{trial_id} beta=0.1", {"beta": 0.1, "width": 8}, {"note": "x"})
    for epoch in range(epochs):
        spool.metrics({"val/bpp_estimated": 1.0 / (epoch + 1), "val/psnr_db": 20.0 + epoch}, epoch)
    return spool


class Server:
    """MLflow's own application behind a real socket, whose answers can be spoilt."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.uri = ""
        self.requests: list[str] = []
        self.fault: Fault | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        self.requests.append(path)
        status = self.fault(path, body) if self.fault is not None else None
        if status == HANG_UP:
            environ["werkzeug.socket"].shutdown(2)
        if status is None:
            answer: Iterable[bytes] = self.app(environ, start_response)
            return answer
        start_response(f"{max(status, 500)} No" if status < 0 else f"{status} No", [])
        return [b"no"]

    def count(self, ending: str) -> int:
        """How many requests went to paths with this ending."""
        return sum(path.endswith(ending) for path in self.requests)

    def answer(self, status: int, to: str = LOG_BATCH, containing: bytes = b"") -> None:
        """Have requests to paths that end so, with such a body, answered with `status`."""
        self.fault = lambda path, body: (
            status if path.endswith(to) and containing in body else None
        )


@contextmanager
def serving(database: str, artifacts: Path) -> Iterator[Server]:
    """A server in threads of this process; only one at a time, and one store a process."""
    from werkzeug.serving import make_server

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Otherwise imported by the first request that needs it, with its warnings.
        import mlflow.server.fastapi_app  # noqa: F401
        from mlflow.server import app, handlers

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    handlers.initialize_backend_stores(database, database, str(artifacts))
    server = Server(app)
    http = make_server("127.0.0.1", 0, server, threaded=True)
    server.uri = f"http://127.0.0.1:{http.port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
