"""Batches: records of one run that go to MLflow in one request."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import Metric

from sweep.tracking.errors import RecordError
from sweep.tracking.spool import Line

MERGED = ("start", "metrics", "tags", "end")
"""Kinds of records that `log_batch` takes; each of the others is a request of its own."""

LIMITS = {"entities": 1000, "params": 100, "tags": 100, "bytes": 250_000}
"""Of a request: MLflow's own, and for its megabyte the spooled lines, which are shorter."""

RUN_STATUS = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
TAG_LENGTH = 5000


@dataclass
class Batch:
    """What a batch of records says of a run.

    status: in MLflow's words, what the last `start` or `end` makes of it; None without either.
    end_ms: when it ended, if it has.
    """

    metrics: list[Metric] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    status: str | None = None
    end_ms: int | None = None


def batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Group `lines`, in their order, into as few batches as the limits allow."""
    batch: list[Line] = []
    used: Counter[str] = Counter()
    params: dict[str, str] = {}
    for line in lines:
        alone = line.record["kind"] not in MERGED
        needed, said = _size(line), line.record.get("params", {})
        full = any(used[name] + needed[name] > limit for name, limit in LIMITS.items())
        # A request that names a parameter twice is rejected, whatever the values.
        differs = any(params.get(name, value) != value for name, value in said.items())
        if batch and (alone or full or differs):
            yield batch
            batch, used, params = [], Counter(), {}
        batch.append(line)
        used.update(needed)
        params.update(said)
        if alone:
            yield batch
            batch, used, params = [], Counter(), {}
    if batch:
        yield batch


def merge(lines: Sequence[Line]) -> Batch:
    """What `lines` say together: each metric with its own timestamp and step, the latest tags.

    Raises:
        RecordError: if a record lacks a field.
    """
    batch = Batch()
    for line in lines:
        try:
            _add(batch, line.record)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RecordError(f"a record that is not whole: {error!r}") from error
    return batch


def _add(batch: Batch, record: Mapping[str, Any]) -> None:
    match record["kind"]:
        case "start":
            batch.params |= record["params"]
            batch.tags |= record["tags"]
            batch.status, batch.end_ms = "RUNNING", None
        case "metrics":
            stamp, step = record["timestamp_ms"], record["step"]
            batch.metrics += [Metric(k, v, stamp, step) for k, v in record["metrics"].items()]
        case "tags":
            batch.tags |= record["tags"]
        case "end":
            batch.tags["status"] = record["status"]
            if record["error"]:
                batch.tags["error"] = record["error"][:TAG_LENGTH]
            batch.status, batch.end_ms = RUN_STATUS[record["status"]], record["timestamp_ms"]


def _size(line: Line) -> Counter[str]:
    record = line.record
    counts = {name: len(record.get(name, ())) for name in ("metrics", "params", "tags")}
    counts["tags"] += 2 * (record["kind"] == "end")
    return Counter(
        params=counts["params"],
        tags=counts["tags"],
        entities=sum(counts.values()),
        bytes=line.end - line.start,
    )
