"""The only writer to MLflow.

Trials append to a spool (`sweep.tracking.spool`); one flusher in the launching process sends it
with the original timestamps, then advances an offset, so what is sent twice after a crash changes
nothing. No tracking error fails a trial or a sweep, and nothing is dropped: what cannot be sent
stays in the spool, what the server rejects goes to a quarantine file beside it.
"""

import fcntl
import logging
import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException

from sweep.tracking.spool import FOLDER, SpoolState, quarantine, read_spool
from sweep.tracking.store import log_params, make_client, origin_tags

RUN_STATUS = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
FLUSH_SECONDS = 1.0
RETRY_SECONDS = 5.0
TOO_MANY_REQUESTS = 429
REQUEST_TIMEOUT = 408
TAG_LIMIT = 5000

logger = logging.getLogger(__name__)


class Flusher:
    """Sends the spools of one sweep to MLflow, from a thread of its own or on request.

    Args:
        sweep: the sweep's directory.
        tracking_uri, experiment_id, parent_run_id, sweep_id: as in its `sweep.json`.
    """

    def __init__(
        self, sweep: Path, tracking_uri: str, experiment_id: str, parent_run_id: str, sweep_id: str
    ) -> None:
        self.sweep = sweep
        self.tracking_uri = tracking_uri
        self.experiment_id = experiment_id
        self.parent_run_id = parent_run_id
        self.sweep_id = sweep_id
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock: IO[str] | None = None

    @cached_property
    def client(self) -> MlflowClient:
        """Made when there is something to send: the store may have moved since."""
        return make_client(self.tracking_uri)

    def lock(self, *, wait: bool) -> bool:
        """Become the only one that sends this sweep's spools; False if another one is."""
        if self._lock is not None:
            return True
        path = self.sweep / FOLDER / ".lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            return False
        self._lock = file
        return True

    def start(self) -> None:
        """Send what is spooled, from now on, in a thread."""
        self.lock(wait=True)
        self._thread = threading.Thread(target=self._run, name="mlflow-flusher", daemon=True)
        self._thread.start()

    def close(self) -> int:
        """Stop the thread, send what is left; returns how many records could not be sent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.lock(wait=True)
        self.flush()
        unsent = self.pending()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        return unsent

    def pending(self) -> int:
        """How many spooled records have not been sent."""
        return sum(
            sum(1 for _ in read_spool(spool, self._state(spool).offset))
            for spool in self._spools()
        )

    def flush(self) -> bool:
        """Send every spooled record; False if the store did not take one of them for now."""
        failures = 0
        for spool in self._spools():
            failures += not self._flush_spool(spool)
            # One may be a run's own trouble; two in a row are the store's, which costs a
            # timeout each.
            if failures == 2:
                break
        return failures == 0

    def _run(self) -> None:
        while not self._stop.is_set():
            sent = False
            try:
                sent = self.flush()
            except Exception:
                # A full disk, say: the records are in the spool, and the trials go on.
                logger.exception("sending to the MLflow store failed, will retry")
            self._stop.wait(FLUSH_SECONDS if sent else RETRY_SECONDS)

    def _spools(self) -> list[Path]:
        return sorted((self.sweep / FOLDER).glob("*.jsonl"))

    def _state(self, spool: Path) -> SpoolState:
        state = SpoolState(spool.with_suffix(".state.json"))
        if spool.stem == "sweep":
            state.run_id = self.parent_run_id
        return state

    def _flush_spool(self, spool: Path) -> bool:
        state = self._state(spool)
        for line in read_spool(spool, state.offset):
            try:
                self._send(spool.stem, line.record, state)
            except Exception as error:
                if not _is_rejection(error):
                    logger.warning("the MLflow store is not reachable, will retry: %s", error)
                    return False
                logger.warning("the MLflow store rejected a record of %s: %s", spool.stem, error)
                quarantine(spool, line, error)
            state.offset = line.end
            state.save()
        return True

    def _send(self, name: str, record: Mapping[str, Any], state: SpoolState) -> None:
        if state.run_id is None:
            state.run_id = self._find_or_create(name, record)
            state.save()
        run_id, client = state.run_id, self.client
        path = self.sweep / record.get("path", "")
        match record["kind"]:
            case "start":
                log_params(client, run_id, record["params"])
                self._set_tags(run_id, record["tags"])
                client.update_run(run_id, status="RUNNING")
            case "metrics":
                stamp, step = record["timestamp_ms"], record["step"]
                metrics = [Metric(k, v, stamp, step) for k, v in record["metrics"].items()]
                client.log_batch(run_id, metrics=metrics)
            case "tags":
                self._set_tags(run_id, record["tags"])
            case "artifact":
                client.log_artifact(run_id, str(path))
            case "image":
                self._log_image(run_id, path, record["key"])
            case "model":
                self._log_model(name, path, record["files"], state)
            case "end":
                error = {"error": record["error"][:TAG_LIMIT]} if record.get("error") else {}
                self._set_tags(run_id, {"status": record["status"], **error})
                status = RUN_STATUS[record["status"]]
                client.set_terminated(run_id, status, end_time=record["timestamp_ms"])

    def _find_or_create(self, trial_id: str, record: Mapping[str, Any]) -> str:
        query = f"tags.sweep_id = '{self.sweep_id}' AND tags.trial_id = '{trial_id}'"
        found = self.client.search_runs([self.experiment_id], query, max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {
            "role": "trial",
            "sweep_id": self.sweep_id,
            "trial_id": trial_id,
            "status": "running",
            "mlflow.parentRunId": self.parent_run_id,
            **origin_tags(),
        }
        run = self.client.create_run(
            self.experiment_id,
            start_time=record["timestamp_ms"],
            tags=tags,
            run_name=record.get("name", trial_id),
        )
        return str(run.info.run_id)

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _log_image(self, run_id: str, path: Path, key: str) -> None:
        from PIL import Image

        with Image.open(path) as image:
            self.client.log_image(run_id, image, key=key, step=0, synchronous=True)

    def _log_model(self, name: str, path: Path, files: list[str], state: SpoolState) -> None:
        if state.model_id is None:
            model = self.client.create_logged_model(
                self.experiment_id,
                name=f"{self.sweep_id}-{name}",
                source_run_id=state.run_id,
                tags={"sweep_id": self.sweep_id, "trial_id": name},
                model_type="rdsweep",
            )
            state.model_id = model.model_id
            state.save()
        for file in files:
            self.client.log_model_artifact(state.model_id, str(path / file))
        self.client.finalize_logged_model(state.model_id, "READY")
        assert state.run_id is not None
        self._set_tags(state.run_id, {"model_uri": f"models:/{state.model_id}"})


def _is_rejection(error: Exception) -> bool:
    """Whether sending the same record again cannot help."""
    if isinstance(error, MlflowException):
        code = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
        return 400 <= code < 500 and code not in (REQUEST_TIMEOUT, TOO_MANY_REQUESTS)
    return isinstance(error, FileNotFoundError | ValueError | KeyError | TypeError)
