"""The spool: what a trial has to say to the tracker, as JSON lines on durable storage.

A trial appends and never waits for a server; `sweep.tracking.flusher` sends later. Each line is
written and synced whole; a reader takes lines up to the last newline, so it sees no torn one.
"""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rdmodels.checkpoint import write_text
from rdmodels.results.trial import metric_keys

FOLDER = "spool"
SUFFIX = ".jsonl"
LOCK = ".lock"
"""In the folder; whoever sends the spools of a sweep has it."""

SWEEP = "sweep"
"""The spool of the parent run, which is created before it."""

SWEEP_METRICS = ("hypervolume", "trials/complete", "trials/failed")
KNOWN_METRICS = frozenset([*metric_keys(), *SWEEP_METRICS])


class Line(NamedTuple):
    """A record, and the offsets, in bytes, of where it starts and of what follows it."""

    record: dict[str, Any]
    start: int
    end: int


class Spool:
    """The spool file of one run, to append to. What a trial's run says begins with `start`.

    Args:
        sweep: the sweep's directory.
        name: the trial's id, or "sweep" for the parent run.

    Raises:
        ValueError: from every method but `start`, if a trial's run has not been started: it would
            become a run without parameters.
    """

    def __init__(self, sweep: Path, name: str) -> None:
        self.name = name
        self.path = sweep / FOLDER / f"{name}{SUFFIX}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The parent run has been given its parameters when it was created.
        self._started = name == SWEEP

    @property
    def started(self) -> bool:
        """Whether `start` has been called for this run, by whichever process."""
        if not self._started:
            first = next(read_spool(self.path, 0), None)
            self._started = first is not None and first.record["kind"] == "start"
        return self._started

    def start(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """The run begins, or begins again: its name in the UI, its parameters and tags."""
        shown = {key: _storable(str(value)) for key, value in params.items()}
        self._append("start", name=_storable(name), params=shown, tags=_storable_tags(tags))
        self._started = True

    def metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Metrics of one epoch. Non-finite values are left out: a server would store others.

        Raises:
            ValueError: if a key is none of the record's fields.
        """
        unknown = sorted(set(metrics) - KNOWN_METRICS)
        if unknown:
            raise ValueError(f"metric {unknown[0]!r} is not a field of rdmodels.results")
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        self._append("metrics", metrics=finite, step=step)

    def tags(self, tags: Mapping[str, str]) -> None:
        """Tags to set on the run."""
        self._append("tags", tags=_storable_tags(tags))

    def artifact(self, path: Path) -> None:
        """A file to store with the run."""
        self._append("artifact", path=self._relative(path))

    def image(self, path: Path, key: str) -> None:
        """A PNG to show in the run's image grid, at step 0, where the UI opens."""
        self._append("image", path=self._relative(path), key=key)

    def model(self, directory: Path, files: list[str]) -> None:
        """A trained model: these files of `directory`."""
        self._append("model", path=self._relative(directory), files=files)

    def end(self, status: str, error: str | None = None) -> None:
        """The run ends: complete, pruned, failed or stopped."""
        self._append("end", status=status, error=None if error is None else _storable(error))

    def _relative(self, path: Path) -> str:
        # Relative to the sweep, so that a moved sweep still finds its files.
        return str(path.relative_to(self.path.parent.parent))

    def _append(self, kind: str, **fields: Any) -> None:
        if kind != "start" and not self.started:
            raise ValueError(f"{kind!r} for {self.name}, which has not been started: start() it")
        record = {"kind": kind, "timestamp_ms": int(time.time() * 1000), **fields}
        append_line(self.path, json.dumps(record, allow_nan=False))


def append_line(path: Path, text: str) -> None:
    """Append `text` as a line of its own, and sync it."""
    with path.open("ab") as file:
        if file.tell() and not _ends_whole(path):
            # A killed writer left part of a line: close it, a reader skips what is no JSON.
            file.write(b"\n")
        file.write(text.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_spool(path: Path, offset: int) -> Iterator[Line]:
    """Whole records of `path` after `offset`; torn lines are passed over."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start, offset = offset, offset + len(line)
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and "kind" in record:
                yield Line(record, start, offset)


def last_record(path: Path) -> dict[str, Any] | None:
    """The newest whole record of `path`, if any."""
    lines = list(read_spool(path, 0))
    return lines[-1].record if lines else None


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _storable(text: str) -> str:
    """`text` as every database takes it: no half characters, no NUL."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _storable_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: _storable(value) for key, value in tags.items()}


class SpoolState:
    """How far one spool has been sent, and the run it became; saved after every step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        saved = json.loads(path.read_text()) if path.exists() else {}
        self.offset: int = saved.get("offset", 0)
        self.run_id: str | None = saved.get("run_id")

    def save(self) -> None:
        write_text(self.path, json.dumps({"offset": self.offset, "run_id": self.run_id}))


def state_of(spool: Path) -> SpoolState:
    """The state of the spool at `spool`, which lies beside it."""
    return SpoolState(spool.with_suffix(".state.json"))


def spools_of(sweep: Path) -> list[Path]:
    """The spools of the sweep in `sweep`, by name."""
    return sorted((sweep / FOLDER).glob(f"*{SUFFIX}"))


def count_unsent(spool: Path) -> int:
    """How many records of the spool at `spool` have not been sent."""
    return sum(1 for _ in read_spool(spool, state_of(spool).offset))
