"""Batches: what goes in one request, and that a crash loses nothing and doubles nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep.tracking.batches import LIMITS, batches, merge
from sweep.tracking.errors import RecordError
from sweep.tracking.flusher import Flusher
from sweep.tracking.quarantine import quarantined
from sweep.tracking.spool import Line, Spool, read_spool
from tests.sweep.tracking.tracked import (
    LOG_BATCH,
    Server,
    history_of,
    run_of,
    spool_trial,
)


def lines_of(*records: dict[str, Any], size: int = 100) -> list[Line]:
    return [
        Line({"timestamp_ms": number, **record}, number * size, (number + 1) * size)
        for number, record in enumerate(records)
    ]


def metrics(count: int, step: int = 0) -> dict[str, Any]:
    return {"kind": "metrics", "step": step, "metrics": {f"m{n}": 1.0 for n in range(count)}}


def tags(count: int) -> dict[str, Any]:
    return {"kind": "tags", "tags": {f"t{n}": "" for n in range(count)}}


def start(**params: str) -> dict[str, Any]:
    return {"kind": "start", "name": "n", "params": params, "tags": {}}


def end(status: str = "complete") -> dict[str, Any]:
    return {"kind": "end", "status": status, "error": None}


def sizes(lines: list[Line]) -> list[int]:
    groups = list(batches(lines))
    assert [line for group in groups for line in group] == lines
    return [len(group) for group in groups]


MANY = {f"p{n}": "" for n in range(50)}
OTHERS = {f"q{n}": "" for n in range(50)}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], []),
        ([metrics(250)] * 4, [4]),
        ([metrics(250)] * 4 + [metrics(1)], [4, 1]),
        ([metrics(1000), metrics(1000)], [1, 1]),
        ([metrics(1001)], [1]),
        ([metrics(900), tags(100)], [2]),
        ([metrics(901), tags(100)], [1, 1]),
        ([tags(50), tags(50)], [2]),
        ([tags(50), tags(51)], [1, 1]),
        ([tags(98), end()], [2]),
        ([tags(99), end()], [1, 1]),
        ([start(**MANY), start(**OTHERS)], [2]),
        ([start(**MANY), start(**OTHERS), start(z="")], [2, 1]),
        ([start(beta="1"), end("failed"), start(beta="1"), end()], [4]),
        ([start(beta="1"), metrics(1), start(beta="2")], [2, 1]),
        ([metrics(1), {"kind": "artifact", "path": "x"}, metrics(1), metrics(1)], [1, 1, 2]),
    ],
)
def test_records_are_grouped_within_the_limits_of_a_request(
    records: list[dict[str, Any]], expected: list[int]
) -> None:
    assert sizes(lines_of(*records)) == expected


def test_a_request_has_a_limit_in_bytes() -> None:
    size = LIMITS["bytes"] // 4
    assert sizes(lines_of(*[metrics(1)] * 5, size=size)) == [4, 1]
    assert sizes(lines_of(*[metrics(1)] * 5, size=size + 1)) == [3, 2]


def test_the_latest_of_several_records_has_the_last_word() -> None:
    first = {"kind": "tags", "tags": {"a": "1", "b": "1"}}
    second = {"kind": "tags", "tags": {"b": "2"}}
    batch = merge(lines_of(start(beta="1"), first, end("failed"), second))
    assert batch.tags == {"a": "1", "b": "2", "status": "failed"}
    assert (batch.status, batch.end_ms) == ("FAILED", 2)
    batch = merge(lines_of(end("failed"), start(beta="1")))
    assert (batch.status, batch.end_ms) == ("RUNNING", None)
    assert merge(lines_of(metrics(1))).status is None
    with pytest.raises(RecordError):
        merge(lines_of(end("no such status")))


def test_a_trial_is_one_request_with_the_timestamps_and_steps_of_its_records(
    sweep: Path, server: Server, remote: Flusher
) -> None:
    spool = spool_trial(sweep, epochs=100)
    spool.tags({"note": "y"})
    spool.end("complete")
    assert remote.flush()
    assert server.count(LOG_BATCH) == 1
    assert server.count("/runs/update") == 1
    run = run_of(remote, "t0000")
    records = [line.record for line in read_spool(spool.path, 0)]
    history = remote.client.get_metric_history(run.info.run_id, "val/bpp_estimated")
    assert sorted((each.step, each.timestamp, each.value) for each in history) == [
        (record["step"], record["timestamp_ms"], record["metrics"]["val/bpp_estimated"])
        for record in records[1:-2]
    ]
    assert run.data.params == {"beta": "0.1", "width": "8"}
    assert run.data.tags["note"] == "y"
    assert (run.info.status, run.info.end_time) == ("FINISHED", records[-1]["timestamp_ms"])
    assert run.info.start_time == records[0]["timestamp_ms"]


def test_a_new_run_need_not_be_told_that_it_is_running(
    sweep: Path, server: Server, remote: Flusher
) -> None:
    spool_trial(sweep)
    assert remote.flush()
    assert run_of(remote, "t0000").info.status == "RUNNING"
    assert server.count("/runs/update") == 0


def test_a_run_that_starts_again_is_running_again(sweep: Path, flusher: Flusher) -> None:
    spool_trial(sweep).end("failed", "why")
    assert flusher.flush()
    assert run_of(flusher, "t0000").info.status == "FAILED"
    spool_trial(sweep)
    assert flusher.flush()
    assert run_of(flusher, "t0000").info.status == "RUNNING"


CRASH = """
import os, signal, sys
from pathlib import Path
from sweep.tracking import spool
from sweep.tracking.flusher import Flusher

left, save = int(sys.argv[1]), spool.SpoolState.save

def save_or_die(state):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    save(state)

spool.SpoolState.save = save_or_die
Flusher(Path(sys.argv[2]), *sys.argv[3:]).flush()
"""


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6, 7])
def test_killed_before_it_saves_the_offset_it_loses_nothing_and_doubles_nothing(
    at: int, sweep: Path, flusher: Flusher
) -> None:
    spool_a_whole_trial(sweep)
    uri = f"sqlite:///{sweep.parent}/mlflow.db"
    arguments = [str(at), str(sweep), uri, flusher.experiment_id, flusher.parent_run_id, "s1"]
    done = subprocess.run([sys.executable, "-c", CRASH, *arguments], env=os.environ, timeout=120)
    # Saved: the run's id, a batch, three requests of their own, a batch.
    assert done.returncode == (-signal.SIGKILL if at <= 6 else 0)
    assert flusher.close() == (0, 0)
    assert_whole(flusher)


def test_a_model_of_which_only_the_entry_was_made_is_completed(
    sweep: Path, server: Server, remote: Flusher
) -> None:
    spool_a_whole_trial(sweep)
    server.fault = lambda path, body: 500 if "/logged-models/m-" in path else None
    assert not remote.flush()
    server.fault = None
    fresh = Flusher(sweep, server.uri, remote.experiment_id, remote.parent_run_id, "s1")
    assert fresh.close() == (0, 0)
    assert_whole(fresh)


def spool_a_whole_trial(sweep: Path) -> Spool:
    spool = spool_trial(sweep)
    files = sweep / "trials" / "t0000"
    files.mkdir(parents=True)
    Image.new("L", (8, 8)).save(files / "reconstructions.png")
    (files / "model.safetensors").write_bytes(b"weights")
    spool.artifact(files / "reconstructions.png")
    spool.image(files / "reconstructions.png", "reconstructions")
    spool.model(files, ["model.safetensors"])
    spool.metrics({"best/bpp": 0.3})
    spool.end("complete")
    return spool


def assert_whole(flusher: Flusher) -> None:
    run = run_of(flusher, "t0000")  # exactly one
    assert run.info.status == "FINISHED"
    assert run.data.tags["status"] == "complete"
    assert history_of(flusher, "t0000") == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert history_of(flusher, "t0000", "best/bpp") == [(0, 0.3)]
    images = [file.path for file in flusher.client.list_artifacts(run.info.run_id, "images")]
    assert sorted(Path(path).suffix for path in images) == [".png", ".webp"]
    models = flusher.client.search_logged_models([flusher.experiment_id])
    assert [f"models:/{model.model_id}" for model in models] == [run.data.tags["model_uri"]]


def test_a_whole_trial_that_is_sent_again_changes_nothing(sweep: Path, flusher: Flusher) -> None:
    spool = spool_a_whole_trial(sweep)
    assert flusher.flush()
    state = spool.path.with_suffix(".state.json")
    state.write_text(state.read_text().replace('"offset": ', '"offset": 0, "was": '))
    again = Flusher(
        sweep,
        f"sqlite:///{sweep.parent}/mlflow.db",
        flusher.experiment_id,
        flusher.parent_run_id,
        "s1",
    )
    assert again.pending() == 9
    assert again.close() == (0, 0)
    assert_whole(again)


@pytest.mark.parametrize("left", [1, 2])
def test_the_offset_is_behind_what_has_been_sent(
    left: int, sweep: Path, server: Server, remote: Flusher
) -> None:
    """A batch that fails leaves what came before it sent, itself and what follows waiting."""
    spool = spool_trial(sweep, epochs=1)
    (sweep / "file.txt").write_text("x")
    spool.artifact(sweep / "file.txt")
    for step in range(left):
        spool.metrics({"val/bpp_estimated": 12345.0}, 1 + step)
    server.answer(500, containing=b"12345.0")
    assert not remote.flush()
    assert remote.pending() == left
    state = spool.path.with_suffix(".state.json").read_text()
    assert [line.record["kind"] for line in read_spool(spool.path, offset_in(state))] == [
        "metrics"
    ] * left


def offset_in(state: str) -> int:
    import json

    return int(json.loads(state)["offset"])


def test_a_file_that_is_gone_or_no_image_is_quarantined_alone(
    sweep: Path, flusher: Flusher
) -> None:
    spool = spool_trial(sweep, epochs=1)
    (sweep / "torn.png").write_bytes(b"\x89PNG")
    spool.image(sweep / "torn.png", "torn")
    spool.artifact(sweep / "gone.txt")
    spool.model(sweep, ["gone.safetensors"])
    spool.metrics({"val/bpp_estimated": 0.5}, 1)
    assert flusher.close() == (0, 3)
    reasons = [entry["error"] for entry in quarantined(spool.path).values()]
    assert [name in reason for name, reason in zip(("torn", "gone", "gone"), reasons, strict=True)]
    assert len(history_of(flusher, "t0000")) == 2


def test_texts_arrive_that_no_database_would_take(sweep: Path, flusher: Flusher) -> None:
    spool = Spool(sweep, "t0000")
    spool.start("caf\udce9", {"dataset": "folder:caf\udce9"}, {"note": "a\0b"})
    spool.end("failed", "caf\udce9\0")
    assert flusher.close() == (0, 0)
    run = run_of(flusher, "t0000")
    assert run.data.params == {"dataset": "folder:caf?"}
    assert (run.data.tags["note"], run.data.tags["error"]) == ("ab", "caf?")
