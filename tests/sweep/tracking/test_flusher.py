"""Which spools a flusher looks at, the quarantine it keeps, and who sends."""

import json
import os
from pathlib import Path

import pytest

from rdmodels.errors import TrackingError
from sweep.tracking import flusher as module
from sweep.tracking.flusher import Flusher
from sweep.tracking.lock import is_locked, locked, try_lock
from sweep.tracking.quarantine import count_records, quarantined, replay_quarantine
from sweep.tracking.spool import FOLDER, LOCK, Spool, last_record, read_spool
from tests.sweep.tracking.tracked import (
    LOG_BATCH,
    Server,
    history_of,
    run_of,
    spool_trial,
)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the spools whose states are read from now on."""
    names: list[str] = []
    state_of = module.state_of

    def recorded(path: Path) -> module.SpoolState:
        names.append(path.stem)
        return state_of(path)

    monkeypatch.setattr(module, "state_of", recorded)
    return names


def test_spools_that_have_been_sent_are_left_alone_until_they_grow(
    sweep: Path, flusher: Flusher, opened: list[str]
) -> None:
    spools = [spool_trial(sweep, name, epochs=1) for name in ("a", "b", "c")]
    spools[0].end("failed", "why")
    assert flusher.flush()
    assert sorted(opened) == ["a", "b", "c"]
    opened.clear()
    assert flusher.flush()
    assert not opened
    spool_trial(sweep, "a", epochs=2)  # tried again
    assert flusher.flush()
    assert opened == ["a"]
    assert run_of(flusher, "a").info.status == "RUNNING"
    assert flusher.pending() == 0


def test_a_torn_line_is_looked_at_again_when_it_is_whole(
    sweep: Path, flusher: Flusher, opened: list[str]
) -> None:
    spool = spool_trial(sweep, epochs=1)
    metrics = {"val/bpp_estimated": 0.5}
    record = {"kind": "metrics", "timestamp_ms": 5, "metrics": metrics, "step": 1}
    text = json.dumps(record) + "\n"
    with spool.path.open("a") as file:
        file.write(text[:30])
    assert flusher.flush()
    opened.clear()
    assert flusher.flush()
    assert not opened
    with spool.path.open("a") as file:
        file.write(text[30:-1])
    assert len(list(read_spool(spool.path, 0))) == 2
    with spool.path.open("a") as file:
        file.write(text[-1:])
    assert flusher.flush()
    assert history_of(flusher, "t0000") == [(0, 1.0), (1, 0.5)]


def test_a_failed_spool_is_tried_at_every_flush(
    sweep: Path, server: Server, remote: Flusher
) -> None:
    spool_trial(sweep)
    server.answer(503)
    for number in range(1, 4):
        assert not remote.flush()
        assert server.count(LOG_BATCH) == number
    server.fault = None
    assert remote.flush()


def test_what_was_quarantined_is_sent_in_its_place_when_it_is_replayed(
    sweep: Path, server: Server, remote: Flusher
) -> None:
    server.answer(400)
    spool = spool_trial(sweep, epochs=2)
    assert remote.flush()
    assert count_records(sweep) == (0, 3)
    server.fault = None
    spool.tags({"note": "y"})
    spool.end("complete")
    assert remote.flush()
    assert replay_quarantine(sweep) == 3
    assert count_records(sweep) == (5, 0)
    assert remote.close() == (0, 0)
    run = run_of(remote, "t0000")
    assert run.data.params == {"beta": "0.1", "width": "8"}
    assert history_of(remote, "t0000") == [(0, 1.0), (1, 0.5)]
    # The start and its tags, sent late, do not undo what came after them.
    assert (run.info.status, run.data.tags["note"]) == ("FINISHED", "y")
    end = last_record(spool.path)
    assert end is not None
    assert run.info.end_time == end["timestamp_ms"]
    assert replay_quarantine(sweep) == 0


def test_what_is_rejected_again_returns_to_quarantine(sweep: Path, flusher: Flusher) -> None:
    spool = spool_trial(sweep, epochs=1)
    spool.start("again", {"beta": "0.2"}, {})
    spool.artifact(sweep / "late.txt")
    spool.end("complete")
    assert flusher.close() == (0, 2)
    before = quarantined(spool.path)
    (sweep / "late.txt").write_text("x")
    assert replay_quarantine(sweep) == 2
    assert flusher.close() == (0, 1)
    assert [entry["record"]["kind"] for entry in quarantined(spool.path).values()] == ["start"]
    assert set(quarantined(spool.path)) < set(before)
    assert run_of(flusher, "t0000").info.status == "FINISHED"
    assert history_of(flusher, "t0000") == [(0, 1.0)]


def test_a_record_that_was_put_in_quarantine_twice_counts_once(
    sweep: Path, flusher: Flusher
) -> None:
    spool = spool_trial(sweep, epochs=1)
    spool.artifact(sweep / "gone.txt")
    assert flusher.flush()
    file = spool.path.with_suffix(".quarantine")
    file.write_text(file.read_text() * 2 + '{"offset": 1')  # and a torn line
    assert count_records(sweep) == (0, 1)


def test_nothing_is_replayed_while_somebody_sends(sweep: Path) -> None:
    Spool(sweep, "sweep")
    lock = try_lock(sweep / FOLDER / LOCK)
    assert lock is not None
    with lock:
        with pytest.raises(TrackingError, match="are being sent"):
            replay_quarantine(sweep)
        assert is_locked(sweep / FOLDER / LOCK)
    assert not is_locked(sweep / FOLDER / LOCK)
    assert replay_quarantine(sweep) == 0


def test_only_one_sends_at_a_time(
    sweep: Path, flusher: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.5)
    spool_trial(sweep)
    lock = try_lock(sweep / FOLDER / LOCK)
    assert lock is not None
    with lock:
        assert not flusher.flush()
        assert flusher.close() == (4, 0)
    assert flusher.close() == (0, 0)
    assert not is_locked(sweep / FOLDER / LOCK)


def test_a_lock_is_waited_for_only_so_long(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = try_lock(path)
    assert held is not None
    with held, pytest.raises(TimeoutError, match="another process has held"), locked(path, 0.2):
        pass
    with locked(path, 0):
        assert is_locked(path)


def test_what_is_spooled_while_it_runs_is_sent(sweep: Path, flusher: Flusher) -> None:
    import time

    flusher.start()
    spool = spool_trial(sweep, epochs=1)
    deadline = time.monotonic() + 20
    while flusher.pending() and time.monotonic() < deadline:
        time.sleep(0.05)
    spool.end("complete")
    assert flusher.close() == (0, 0)
    assert run_of(flusher, "t0000").info.status == "FINISHED"


@pytest.mark.parametrize("kind", ["end", "tags", "metrics", "artifact"])
def test_nothing_is_said_of_a_run_that_has_not_been_started(kind: str, sweep: Path) -> None:
    spool = Spool(sweep, "t0000")
    say = {
        "end": lambda: spool.end("stopped"),
        "tags": lambda: spool.tags({"error": "why"}),
        "metrics": lambda: spool.metrics({"val/bpp_estimated": 1.0}),
        "artifact": lambda: spool.artifact(sweep / "file.txt"),
    }[kind]
    assert not spool.started
    with pytest.raises(ValueError, match=f"'{kind}' for t0000, which has not been started"):
        say()
    assert not spool.path.exists()
    spool.start("t0000", {}, {})
    assert spool.started
    assert Spool(sweep, "t0000").started
    say()
    Spool(sweep, "t0000").end("stopped")
    assert len(list(read_spool(spool.path, 0))) == 3


def test_a_torn_start_is_none(sweep: Path) -> None:
    spool = Spool(sweep, "t0000")
    spool.path.write_text('{"kind": "start", "na')
    assert not spool.started
    spool.start("t0000", {}, {})
    assert Spool(sweep, "t0000").started


def test_the_parent_run_needs_no_start(sweep: Path, flusher: Flusher) -> None:
    spool = Spool(sweep, "sweep")
    assert spool.started
    spool.metrics({"hypervolume": 1.0})
    Spool(sweep, "sweep").end("complete")
    assert flusher.close() == (0, 0)
    parent = flusher.client.get_run(flusher.parent_run_id)
    assert (parent.info.status, parent.data.params) == ("FINISHED", {"trials": "2"})
    assert os.listdir(sweep / FOLDER)  # noqa: PTH208
