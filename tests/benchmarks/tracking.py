"""Sending spools to MLflow in batches, against one request and one saved offset a record.

Both send the same trials through the same `Flusher` into a SQLite store of their own; the baseline
is told that every record is a batch of its own. Then what a flush costs that has nothing to send.

    python tests/benchmarks/tracking.py [--trials 12] [--epochs 40] [--spools 10000]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sweep.tracking import flusher as module
from sweep.tracking import store
from sweep.tracking.flusher import Flusher
from sweep.tracking.spool import FOLDER, KNOWN_METRICS, SUFFIX, Line, Spool

PARAMS = {f"field_{number}": number for number in range(30)}

Batching = Callable[[Iterable[Line]], Iterator[list[Line]]]


def one_by_one(lines: Iterable[Line]) -> Iterator[list[Line]]:
    for line in lines:
        yield [line]


def make_flusher(root: Path, name: str) -> Flusher:
    sweep = root / name / "sweep"
    sweep.mkdir(parents=True)
    uri = store.default_tracking_uri(sweep)
    client, experiment = store.open_experiment(uri, name, root / name / "artifacts")
    parent = store.create_parent(client, experiment, name, name, {})
    return Flusher(sweep, uri, experiment, parent, name)


def spool_trials(sweep: Path, trials: int, epochs: int) -> int:
    """Spool so many whole trials; returns how many records that is."""
    known = sorted(KNOWN_METRICS)[:6]
    for number in range(trials):
        spool = Spool(sweep, f"t{number:04}")
        spool.start(spool.name, PARAMS, {})
        for epoch in range(epochs):
            spool.metrics(dict.fromkeys(known, 1.0 / (epoch + 1)), epoch)
        spool.end("complete")
    return trials * (epochs + 2)


def records_per_second(flusher: Flusher, batching: Batching, trials: int, epochs: int) -> float:
    records = spool_trials(flusher.sweep, trials, epochs)
    usual, module.batches = module.batches, batching
    try:
        started = time.perf_counter()
        assert flusher.flush()
        return records / (time.perf_counter() - started)
    finally:
        module.batches = usual


def idle_seconds(root: Path, spools: int, rounds: int) -> tuple[float, float]:
    """Seconds of the first flush over ended spools that have been sent, and of a later one."""
    sweep = root / "idle"
    folder = sweep / FOLDER
    folder.mkdir(parents=True)
    line = json.dumps({"kind": "start"}) + "\n"
    state = json.dumps({"offset": len(line), "run_id": "r"})
    for number in range(spools):
        (folder / f"t{number:05}{SUFFIX}").write_text(line)
        (folder / f"t{number:05}.state.json").write_text(state)
    flusher = Flusher(sweep, "http://127.0.0.1:1", "0", "p", "s")
    times = []
    for _ in range(1 + rounds):
        started = time.perf_counter()
        assert flusher.flush()
        times.append(time.perf_counter() - started)
    return times[0], statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--spools", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        kinds: dict[str, Batching] = {
            "one record a request": one_by_one,
            "batches": module.batches,
        }
        rates = {}
        for name, batching in kinds.items():
            flusher = make_flusher(root, name.replace(" ", "-"))
            rates[name] = records_per_second(flusher, batching, arguments.trials, arguments.epochs)
        baseline = rates["one record a request"]
        for name, rate in rates.items():
            print(f"{name:>22}: {rate:8.0f} records/s  ({rate / baseline:.1f} x)")
        first, later = idle_seconds(root, arguments.spools, arguments.rounds)
        print(
            f"a flush with nothing to send, {arguments.spools} ended spools:"
            f" every state read {first:.3f} s, then {later:.3f} s  ({first / later:.1f} x)"
        )


if __name__ == "__main__":
    main()
