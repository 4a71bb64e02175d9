"""The quarantine of a spool: records that the store rejects, each with the reason.

The record itself stays in the spool, so it can be sent again from there, in its place.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from rdmodels.errors import TrackingError
from sweep.tracking.errors import reason
from sweep.tracking.lock import try_lock
from sweep.tracking.spool import (
    FOLDER,
    LOCK,
    SUFFIX,
    Line,
    append_line,
    count_unsent,
    spools_of,
    state_of,
)

QUARANTINE = ".quarantine"


class Delivery(NamedTuple):
    """How many records wait for the store, and how many it has rejected for good."""

    unsent: int
    quarantined: int


def count_records(sweep: Path) -> Delivery:
    """What of the sweep in `sweep` is not in its store; asks only the spools."""
    return Delivery(sum(map(count_unsent, spools_of(sweep))), count_quarantined(sweep))


def count_quarantined(sweep: Path) -> int:
    """How many records of the sweep in `sweep` are in quarantine."""
    return sum(len(quarantined(spool)) for spool in _files(sweep))


def quarantine(spool: Path, line: Line, error: Exception) -> None:
    """Put a record aside, with the reason for which it is rejected."""
    entry = {"offset": line.start, "error": reason(error), "record": line.record}
    append_line(spool.with_suffix(QUARANTINE), json.dumps(entry))


def quarantined(spool: Path) -> dict[int, dict[str, Any]]:
    """What is in quarantine, by its offset in the spool at `spool`.

    Whoever is killed between the quarantine and the next record puts one there twice.
    """
    file = spool.with_suffix(QUARANTINE)
    found = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            entry = json.loads(line)
            found[entry["offset"]] = entry
        except (ValueError, KeyError, TypeError):
            continue  # torn
    return found


def replay_quarantine(sweep: Path) -> int:
    """Have every record in quarantine sent again; returns how many there are.

    The spool is sent again from the first of them on, in its order: what the store has already
    does not change, and later tags and the run's end have the last word. A record that is
    rejected again returns to quarantine.

    Raises:
        TrackingError: if the sweep's records are being sent right now.
    """
    lock = try_lock(sweep / FOLDER / LOCK)
    if lock is None:
        raise TrackingError(
            f"the records of {sweep} are being sent: try again when that has ended"
        )
    with lock:
        return sum(_replay(file.with_suffix(SUFFIX)) for file in _files(sweep))


def _replay(spool: Path) -> int:
    offsets = quarantined(spool)
    if offsets:
        state = state_of(spool)
        state.offset = min(state.offset, *offsets)
        state.save()
        # It grows, so whoever knew it as sent looks again; an empty line is no record.
        append_line(spool, "")
    spool.with_suffix(QUARANTINE).unlink()
    return len(offsets)


def _files(sweep: Path) -> list[Path]:
    return sorted((sweep / FOLDER).glob(f"*{QUARANTINE}"))
