"""Sends the records of a run to MLflow. What is sent twice changes nothing."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Param, RunTag
from PIL import Image

from sweep.tracking.batches import MERGED, merge
from sweep.tracking.errors import RecordError, is_missing
from sweep.tracking.origin import origin_tags
from sweep.tracking.spool import Line
from sweep.tracking.store import make_client


class Sender:
    """Sends records of the runs of one sweep.

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
        self._running: set[str] = set()
        """Runs known to be running, so that a new one need not be told."""

    @cached_property
    def client(self) -> MlflowClient:
        """Made when there is something to send: the store may have moved since."""
        return make_client(self.tracking_uri)

    def find_or_create(self, trial_id: str, record: Mapping[str, Any]) -> str:
        """The id of a trial's run, which is created if need be, running; `record` is its first."""
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
        self._running.add(run.info.run_id)
        return str(run.info.run_id)

    def send(self, run_id: str, name: str, lines: Sequence[Line]) -> None:
        """Send one of `sweep.tracking.batches.batches` to the run of trial `name`.

        Raises:
            RecordError: if no request can be made of a record.
            Exception: what MLflow, `requests` and the artifact stores raise, which
                `sweep.tracking.errors` tells apart.
        """
        record = lines[0].record
        if record["kind"] in MERGED:
            self._send_batch(run_id, lines)
            return
        path = self.sweep / _field(record, "path")
        match record["kind"]:
            case "artifact":
                self.client.log_artifact(run_id, str(_existing(path)))
            case "image":
                stamp = int(_field(record, "timestamp_ms"))
                self._send_image(run_id, path, str(_field(record, "key")), stamp)
            case "model":
                files = [_existing(path / file) for file in _field(record, "files")]
                self._send_model(run_id, name, files)
            case kind:
                raise RecordError(f"a record of kind {kind!r}, which this version does not know")

    def is_gone(self, error: Exception) -> bool:
        """Whether `error` says that a run does not exist in what is the right store.

        Any other store, such as another database behind the same address, lacks the parent too.
        """
        if not is_missing(error):
            return False
        try:
            self.client.get_run(self.parent_run_id)
        except Exception:
            return False
        return True

    def _send_batch(self, run_id: str, lines: Sequence[Line]) -> None:
        batch = merge(lines)
        params = [Param(key, value) for key, value in batch.params.items()]
        tags = [RunTag(key, value) for key, value in batch.tags.items()]
        self.client.log_batch(run_id, batch.metrics, params, tags)
        if batch.end_ms is not None:
            self.client.set_terminated(run_id, batch.status, end_time=batch.end_ms)
            self._running.discard(run_id)
        elif batch.status is not None and run_id not in self._running:
            self.client.update_run(run_id, status=batch.status)
            self._running.add(run_id)

    def _send_image(self, run_id: str, path: Path, key: str, timestamp_ms: int) -> None:
        # MLflow gives every image a name of its own, by which one that is there is known.
        name = f"{key.replace('/', '~')}+step+0+timestamp+{timestamp_ms}+"
        for file in self.client.list_artifacts(run_id, "images"):
            if Path(file.path).name.startswith(name) and file.path.endswith(".webp"):
                return
        try:
            with Image.open(_existing(path)) as image:
                image.load()
        except OSError as error:
            if error.errno is not None:
                raise  # The system's, not Pillow's: the disk may come back.
            raise RecordError(f"{path} is no image that can be read: {error}") from error
        self.client.log_image(
            run_id, image, key=key, step=0, timestamp=timestamp_ms, synchronous=True
        )

    def _send_model(self, run_id: str, name: str, files: Sequence[Path]) -> None:
        model_id = self._find_or_create_model(run_id, name)
        for file in files:
            self.client.log_model_artifact(model_id, str(file))
        self.client.finalize_logged_model(model_id, "READY")
        self.client.log_batch(run_id, tags=[RunTag("model_uri", f"models:/{model_id}")])

    def _find_or_create_model(self, run_id: str, trial_id: str) -> str:
        query = f"source_run_id = '{run_id}'"
        found = self.client.search_logged_models([self.experiment_id], query, max_results=1)
        if found:
            return str(found[0].model_id)
        model = self.client.create_logged_model(
            self.experiment_id,
            name=f"{self.sweep_id}-{trial_id}",
            source_run_id=run_id,
            tags={"sweep_id": self.sweep_id, "trial_id": trial_id},
            model_type="rdsweep",
        )
        return str(model.model_id)


def _field(record: Mapping[str, Any], name: str) -> Any:
    try:
        return record[name]
    except KeyError:
        raise RecordError(f"a record of kind {record['kind']!r} without {name!r}") from None


def _existing(path: Path) -> Path:
    if not path.exists():
        raise RecordError(f"{path} is gone")
    return path
