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
SWEEP_METRICS = ("hypervolume", "trials/complete", "trials/failed")
KNOWN_METRICS = frozenset([*metric_keys(), *SWEEP_METRICS])


class Line(NamedTuple):
    """A record and the offset, in bytes, of what follows it."""

    record: dict[str, Any]
    end: int


class Spool:
    """The spool file of one run, to append to.

    Args:
        sweep: the sweep's directory.
        name: the trial's id, or "sweep" for the parent run.
    """

    def __init__(self, sweep: Path, name: str) -> None:
        self.path = sweep / FOLDER / f"{name}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """The run begins: its name in the UI, its parameters and tags."""
        shown = {key: str(value) for key, value in params.items()}
        self._append("start", name=name, params=shown, tags=dict(tags))

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
        self._append("tags", tags=dict(tags))

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
        self._append("end", status=status, error=error)

    def _relative(self, path: Path) -> str:
        # Relative to the sweep, so that a moved sweep still finds its files.
        return str(path.relative_to(self.path.parent.parent))

    def _append(self, kind: str, **fields: Any) -> None:
        record = {"kind": kind, "timestamp_ms": int(time.time() * 1000), **fields}
        line = json.dumps(record, allow_nan=False) + "\n"
        with self.path.open("ab") as file:
            if file.tell() and not _ends_whole(self.path):
                # A killed writer left part of a line: close it, a reader skips what is no JSON.
                file.write(b"\n")
            file.write(line.encode())
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
            offset += len(line)
            try:
                record = json.loads(line)
            except ValueError:
                continue
            yield Line(record, offset)


def last_record(path: Path) -> dict[str, Any] | None:
    """The newest whole record of `path`, if any."""
    lines = list(read_spool(path, 0))
    return lines[-1].record if lines else None


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class SpoolState:
    """How far one spool has been sent, and the ids it became; saved after every step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        saved = json.loads(path.read_text()) if path.exists() else {}
        self.offset: int = saved.get("offset", 0)
        self.run_id: str | None = saved.get("run_id")
        self.model_id: str | None = saved.get("model_id")

    def save(self) -> None:
        values = {"offset": self.offset, "run_id": self.run_id, "model_id": self.model_id}
        write_text(self.path, json.dumps(values))


def quarantine(spool: Path, line: Line, error: Exception) -> None:
    """Put a record that the store rejects, with its reason, aside."""
    with spool.with_suffix(".quarantine").open("a") as file:
        file.write(json.dumps({"error": str(error), "record": line.record}) + "\n")
