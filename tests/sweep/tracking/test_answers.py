"""What the flusher makes of what a server answers, or does not answer."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INVALID_PARAMETER_VALUE

from sweep.tracking import errors, flusher
from sweep.tracking.flusher import Flusher
from sweep.tracking.quarantine import count_records, quarantined
from sweep.tracking.spool import Spool
from tests.sweep.tracking.tracked import (
    HANG_UP,
    LOG_BATCH,
    Server,
    history_of,
    make_flusher,
    run_of,
    spool_trial,
)

MARK = b"12345.0"
"""The value of a metric to which the server answers no."""


def spool_trials(sweep: Path, *names: str) -> list[Spool]:
    return [spool_trial(sweep, name, epochs=1) for name in names]


@pytest.mark.parametrize("status", [401, 403, 404, 407, 408, 409, 429, 500, 502, 503, 504])
def test_an_answer_that_may_change_leaves_the_records_waiting(
    status: int, sweep: Path, server: Server, remote: Flusher
) -> None:
    spool_trial(sweep, epochs=2)
    server.answer(status)
    for _ in range(2):
        assert not remote.flush()
    assert count_records(sweep) == (3, 0)
    server.fault = None
    assert remote.flush()
    assert count_records(sweep) == (0, 0)
    assert history_of(remote, "t0000") == [(0, 1.0), (1, 0.5)]


def test_no_answer_about_a_run_that_cannot_be_created_is_final(
    sweep: Path, server: Server, remote: Flusher
) -> None:
    spool_trial(sweep)
    remote.client.delete_experiment(remote.experiment_id)
    assert not remote.flush()
    assert count_records(sweep) == (4, 0)
    remote.client.restore_experiment(remote.experiment_id)
    assert remote.flush()
    assert len(history_of(remote, "t0000")) == 3


@pytest.mark.parametrize("bad", [0, 3, 6])
def test_of_a_rejected_batch_only_the_bad_record_is_quarantined(
    bad: int, sweep: Path, server: Server, remote: Flusher
) -> None:
    spool = Spool(sweep, "t0000")
    spool.start("t0000", {"beta": 0.1}, {})
    for step in range(7):
        spool.metrics({"val/bpp_estimated": 12345.0 if step == bad else float(step)}, step)
    spool.end("complete")
    server.answer(400, containing=MARK)
    assert remote.flush()
    assert (remote.pending(), remote.quarantined()) == (0, 1)
    (entry,) = quarantined(spool.path).values()
    assert entry["record"]["step"] == bad
    assert "400" in entry["error"]
    good = [(step, float(step)) for step in range(7) if step != bad]
    assert history_of(remote, "t0000") == good
    assert run_of(remote, "t0000").info.status == "FINISHED"


def test_a_batch_that_a_proxy_finds_too_large_is_sent_in_parts(
    sweep: Path, server: Server, remote: Flusher
) -> None:
    spool_trial(sweep, epochs=40)
    server.fault = lambda path, body: 413 if len(body) > 2500 else None
    assert remote.flush()
    assert count_records(sweep) == (0, 0)
    assert len(history_of(remote, "t0000")) == 40


def test_an_answer_about_some_runs_keeps_no_other_from_being_sent(
    sweep: Path, server: Server, remote: Flusher
) -> None:
    for spool in spool_trials(sweep, "a1", "a2", "a3", "a4"):
        spool.metrics({"val/bpp_estimated": 12345.0}, 1)
    spool_trials(sweep, "b1", "b2")
    server.answer(500, containing=MARK)
    assert not remote.flush()
    assert [len(history_of(remote, name)) for name in ("b1", "b2")] == [1, 1]
    assert count_records(sweep) == (4 * 3, 0)


def test_the_stores_own_trouble_ends_the_round_and_the_next_begins_behind(
    sweep: Path, server: Server, remote: Flusher
) -> None:
    for spool in spool_trials(sweep, "a1", "a2"):
        spool.metrics({"val/bpp_estimated": 12345.0}, 1)
    spool_trials(sweep, "b1")
    server.answer(HANG_UP, containing=MARK)
    assert not remote.flush()
    assert server.count(LOG_BATCH) == 1
    assert not remote.flush()
    assert server.count(LOG_BATCH) == 2
    assert not remote.flush()
    assert len(history_of(remote, "b1")) == 1
    assert count_records(sweep) == (2 * 3, 0)


@pytest.fixture
def frozen() -> Iterator[str]:
    """The address of a server that takes connections and never answers, as a stopped one does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_frozen_server_costs_one_timeout_a_round(
    sweep: Path, remote: Flusher, frozen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    spool_trials(sweep, "a1", "a2", "a3", "a4")
    stuck = Flusher(sweep, frozen, remote.experiment_id, remote.parent_run_id, "s1")
    started = time.monotonic()
    assert not stuck.flush()
    assert 0.9 < time.monotonic() - started < 3
    assert stuck.pending() == 8


def test_closing_waits_a_bounded_time_for_a_frozen_server_and_says_so(
    sweep: Path,
    remote: Flusher,
    frozen: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "6")
    monkeypatch.setattr(flusher, "PATIENCE_SECONDS", 1.0)
    spool_trials(sweep, "a1", "a2", "a3")
    stuck = Flusher(sweep, frozen, remote.experiment_id, remote.parent_run_id, "s1")
    stuck.start()
    time.sleep(0.3)
    started = time.monotonic()
    assert stuck.close() == (6, 0)
    assert 0.9 < time.monotonic() - started < 4.5
    assert "waiting up to 1 s" in caplog.text
    assert f"6 record(s) wait in {sweep / 'spool'}" in caplog.text
    assert stuck._thread is not None
    # Its call ends with the timeout, and then it must not go on with the next spool.
    stuck._thread.join(10)
    assert not stuck._thread.is_alive()


def test_closing_goes_on_while_the_store_takes_records(
    sweep: Path, server: Server, remote: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flusher, "PATIENCE_SECONDS", 3.0)
    spool_trials(sweep, *(f"t{number}" for number in range(8)))

    def slow(path: str, body: bytes) -> None:
        if path.endswith(LOG_BATCH):
            time.sleep(0.4)

    server.fault = slow
    started = time.monotonic()
    assert remote.close() == (0, 0)
    assert time.monotonic() - started > 3.0


def test_what_is_abandoned_stops_at_the_next_batch(
    sweep: Path, server: Server, remote: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flusher, "PATIENCE_SECONDS", 0.3)
    spool = spool_trial(sweep, "a1", epochs=1)
    # Each contradicts the one before, so it is a batch of its own.
    for number in range(3):
        spool.start("a1", {"width": str(number)}, {})
    spool_trials(sweep, "b1")
    answer = threading.Event()

    def hold(path: str, body: bytes) -> None:
        if path.endswith(LOG_BATCH):
            answer.wait(30)

    server.fault = hold
    remote.start()
    wait_for(lambda: server.count(LOG_BATCH) == 1)
    assert remote.close() == (7, 0)
    answer.set()
    assert remote._thread is not None
    remote._thread.join(30)
    assert server.count(LOG_BATCH) == 1
    # What was taken in the end is known to be sent.
    assert remote.pending() == 5
    monkeypatch.undo()
    assert remote.close().unsent == 0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_connection_that_breaks_once_does_not_leave_records_at_the_end(
    sweep: Path, server: Server, remote: Flusher
) -> None:
    spool_trials(sweep, "t0000")
    once = iter([HANG_UP])
    server.fault = lambda path, body: next(once, None) if path.endswith(LOG_BATCH) else None
    assert remote.close() == (0, 0)


def test_a_round_of_nothing_but_refusals_ends_when_its_patience_does(
    sweep: Path, server: Server, remote: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flusher, "PATIENCE_SECONDS", 0.5)
    spool_trials(sweep, *(f"t{number}" for number in range(9)))

    def refuse(path: str, body: bytes) -> int | None:
        if not path.endswith(LOG_BATCH):
            return None
        time.sleep(0.2)
        return 401

    server.fault = refuse
    assert not remote.flush()
    tried = server.count(LOG_BATCH)
    assert 1 <= tried <= 4
    # The next round goes on with those that have not been tried.
    while server.count(LOG_BATCH) < 9:
        assert not remote.flush()
    assert server.count("/runs/create") == 9


def test_an_outage_is_told_once(
    sweep: Path, server: Server, remote: Flusher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "sweep")
    (spool,) = spool_trials(sweep, "t0000")
    server.answer(401)
    for _ in range(3):
        remote.flush()
    assert caplog.text.count("does not take t0000 now") == 1
    server.fault = None
    assert remote.flush()
    spool.metrics({"val/bpp_estimated": 0.5}, 1)
    server.answer(401)
    remote.flush()
    assert caplog.text.count("does not take t0000 now") == 2


def test_a_run_that_was_removed_for_good_is_final_but_not_in_a_store_that_lacks_the_parent_too(
    sweep: Path, server: Server, remote: Flusher
) -> None:
    from mlflow.server import handlers

    (spool,) = spool_trials(sweep, "t0000")
    assert remote.flush()
    run_id = run_of(remote, "t0000").info.run_id
    remote.client.delete_run(run_id)
    handlers._get_tracking_store()._hard_delete_run(run_id)
    spool.metrics({"val/bpp_estimated": 0.5}, 1)
    other = Flusher(sweep, server.uri, remote.experiment_id, "0" * 32, "s1")
    assert not other.flush()
    assert count_records(sweep) == (1, 0)
    assert remote.flush()
    assert count_records(sweep) == (0, 1)


def test_a_busy_database_is_no_verdict_on_a_record() -> None:
    busy = "QueuePool limit reached (Background on this error at: https://sqlalche.me/e/20/3o7r)"
    assert not errors.is_rejection(MlflowException(busy, BAD_REQUEST))
    assert errors.is_rejection(MlflowException("no", BAD_REQUEST))
    assert errors.is_rejection(MlflowException("no", INVALID_PARAMETER_VALUE))
    assert not errors.is_rejection(KeyError("a fault of MLflow's or ours"))


@pytest.mark.slow
def test_a_stopped_mlflow_server_holds_the_end_of_a_launch_for_ten_seconds(sweep: Path) -> None:
    import os
    import signal

    from sweep.tracking.server import start_server, stop_server, wait_until_healthy
    from tests.sweep.tracking.test_tracking import free_port

    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    server = start_server(f"sqlite:///{sweep.parent}/mlflow.db", "127.0.0.1", port)
    try:
        wait_until_healthy(uri, server)
        sending = make_flusher(sweep, uri)
        sending.start()
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        for process in (server.pid, *map(int, children)):
            os.kill(process, signal.SIGSTOP)
        spool_trials(sweep, "t0000")
        time.sleep(1.5)
        started = time.monotonic()
        assert sending.close() == (2, 0)
        assert time.monotonic() - started < 12
        for process in (server.pid, *map(int, children)):
            os.kill(process, signal.SIGCONT)
        fresh = Flusher(sweep, uri, sending.experiment_id, sending.parent_run_id, "s1")
        deadline = time.monotonic() + 60
        while fresh.close() != (0, 0):
            assert time.monotonic() < deadline
        assert history_of(fresh, "t0000") == [(0, 1.0)]
    finally:
        stop_server(server)
