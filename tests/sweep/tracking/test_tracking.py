"""The spool and the flusher against a real SQLite store and a real server."""

import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from rdmodels.errors import TrackingError
from sweep.tracking import store
from sweep.tracking.flusher import Flusher
from sweep.tracking.quarantine import quarantined
from sweep.tracking.server import start_server, stop_server, wait_until_healthy
from sweep.tracking.spool import Spool, last_record, read_spool
from tests.sweep.tracking.tracked import make_flusher, run_of, spool_trial


def test_a_trial_arrives_with_params_metrics_tags_and_files(sweep: Path, flusher: Flusher) -> None:
    spool = spool_trial(sweep)
    files = sweep / "trials" / "t0000"
    files.mkdir(parents=True)
    Image.new("L", (8, 8)).save(files / "reconstructions.png")
    (files / "model.safetensors").write_bytes(b"weights")
    spool.metrics({"best/bpp": 0.3, "test/bpp": 0.31})
    spool.artifact(files / "reconstructions.png")
    spool.image(files / "reconstructions.png", "reconstructions")
    spool.model(files, ["model.safetensors"])
    spool.end("complete")
    assert flusher.close() == (0, 0)
    run = run_of(flusher, "t0000")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"beta": "0.1", "width": "8"}
    assert run.data.metrics["val/bpp_estimated"] == pytest.approx(1 / 3)
    tags = run.data.tags
    assert (tags["role"], tags["status"], tags["sweep_id"]) == ("trial", "complete", "s1")
    assert tags["mlflow.parentRunId"] == flusher.parent_run_id
    history = flusher.client.get_metric_history(run.info.run_id, "val/psnr_db")
    assert [(metric.step, metric.value) for metric in history] == [(0, 20), (1, 21), (2, 22)]
    assert "reconstructions.png" in [
        file.path for file in flusher.client.list_artifacts(run.info.run_id)
    ]
    model = flusher.client.get_logged_model(tags["model_uri"].removeprefix("models:/"))
    assert model.source_run_id == run.info.run_id
    assert str(model.status) == "READY"


def test_sending_twice_changes_nothing(sweep: Path, flusher: Flusher) -> None:
    spool = spool_trial(sweep)
    assert flusher.flush()
    # A flusher killed between sending and saving its offset sends the same lines again.
    spool.path.with_suffix(".state.json").unlink()
    assert flusher.flush()
    run = run_of(flusher, "t0000")
    history = flusher.client.get_metric_history(run.info.run_id, "val/bpp_estimated")
    assert [metric.step for metric in history] == [0, 1, 2]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("complete", "FINISHED"),
        ("pruned", "FINISHED"),
        ("stopped", "KILLED"),
        ("failed", "FAILED"),
    ],
)
def test_statuses(status: str, expected: str, sweep: Path, flusher: Flusher) -> None:
    spool_trial(sweep).end(status, "why <b>" if status == "failed" else None)
    flusher.close()
    run = run_of(flusher, "t0000")
    assert run.info.status == expected
    assert run.data.tags["status"] == status
    assert run.data.tags.get("error") == ("why <b>" if status == "failed" else None)


def test_a_torn_line_is_passed_over_and_the_next_writer_goes_on(sweep: Path) -> None:
    spool = spool_trial(sweep, epochs=1)
    with spool.path.open("ab") as file:
        file.write(b'{"kind": "metrics", "metr')
    assert [line.record["kind"] for line in read_spool(spool.path, 0)] == ["start", "metrics"]
    spool.end("failed", "killed")
    kinds = [line.record["kind"] for line in read_spool(spool.path, 0)]
    assert kinds == ["start", "metrics", "end"]
    last = last_record(spool.path)
    assert last is not None
    assert last["error"] == "killed"


def test_only_known_finite_metrics_enter_the_spool(sweep: Path) -> None:
    spool = Spool(sweep, "t0000")
    spool.start("t0000", {}, {})
    spool.metrics({"val/bpp_estimated": math.inf, "val/mse": math.nan, "val/ssim": 0.5})
    last = last_record(spool.path)
    assert last is not None
    assert last["metrics"] == {"val/ssim": 0.5}
    with pytest.raises(ValueError, match="val/typo"):
        spool.metrics({"val/typo": 1.0})


def test_what_the_store_rejects_is_quarantined_and_the_rest_goes_on(
    sweep: Path, flusher: Flusher
) -> None:
    spool = spool_trial(sweep, epochs=1)
    spool.start("again", {"beta": "0.2"}, {})  # MLflow refuses to change a parameter
    spool.artifact(sweep / "not-there.png")
    spool.metrics({"val/bpp_estimated": 0.25}, 1)
    assert flusher.close() == (0, 2)
    assert run_of(flusher, "t0000").data.metrics["val/bpp_estimated"] == 0.25
    records = [entry["record"] for entry in quarantined(spool.path).values()]
    assert [record["kind"] for record in records] == ["start", "artifact"]


def test_a_retry_continues_the_same_run(sweep: Path, flusher: Flusher) -> None:
    spool_trial(sweep).end("failed", "first try")
    flusher.close()
    first = run_of(flusher, "t0000").info.run_id
    spool_trial(sweep).end("complete")
    flusher.close()
    run = run_of(flusher, "t0000")
    assert (run.info.run_id, run.info.status) == (first, "FINISHED")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_does_not_answer_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="does not answer"):
        store.open_experiment(f"http://127.0.0.1:{free_port()}", "exp", tmp_path)


@pytest.fixture
def quick_to_give_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setitem(os.environ, "MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    return


@pytest.mark.slow
@pytest.mark.usefixtures("quick_to_give_up")
def test_an_outage_loses_nothing(sweep: Path) -> None:
    port = free_port()
    uri, database = f"http://127.0.0.1:{port}", store.default_tracking_uri(sweep)
    server = start_server(database, "127.0.0.1", port)
    try:
        wait_until_healthy(uri, server)
        flusher = make_flusher(sweep, uri)
        spool = spool_trial(sweep, epochs=2)
        assert flusher.flush()
    finally:
        stop_server(server)
    spool.metrics({"val/bpp_estimated": 0.1}, 2)
    assert not flusher.flush()
    assert flusher.pending() == 1
    server = start_server(database, "127.0.0.1", port)
    try:
        wait_until_healthy(uri, server)
        assert flusher.close() == (0, 0)
    finally:
        stop_server(server)
    direct = MlflowClient(database)
    (run,) = direct.search_runs([flusher.experiment_id], "tags.trial_id = 't0000'")
    history = direct.get_metric_history(run.info.run_id, "val/bpp_estimated")
    assert [metric.step for metric in history] == [0, 1, 2]
