"""Sends what the trials of a sweep have spooled, from one thread of the launching process.

Trials append to a spool (`sweep.tracking.spool`); the flusher sends it in batches with the
original timestamps, then advances an offset, so what is sent twice after a crash changes nothing.
No tracking error fails a trial or a sweep, and nothing is dropped: what cannot be sent for now
stays in the spool, what the store rejects for good goes to a quarantine file beside it.
"""

import bisect
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from mlflow import MlflowClient

from sweep.tracking.batches import batches
from sweep.tracking.errors import is_rejection, is_store_error, reason
from sweep.tracking.lock import try_lock
from sweep.tracking.quarantine import Delivery, count_quarantined, quarantine
from sweep.tracking.sender import Sender
from sweep.tracking.spool import (
    FOLDER,
    LOCK,
    SUFFIX,
    SWEEP,
    Line,
    SpoolState,
    count_unsent,
    read_spool,
    state_of,
)

FLUSH_SECONDS = 1.0
RETRY_SECONDS = 5.0
PATIENCE_SECONDS = 10.0
"""A round, and the end of a launch, wait so long for the store to take anything."""

THE_STORE = ""
"""In place of a spool's name, among those whose trouble has been told."""

logger = logging.getLogger(__name__)


class Flusher:
    """Sends the spools of one sweep to MLflow, from a thread of its own or on request.

    Args:
        sweep: the sweep's directory.
        tracking_uri, experiment_id, parent_run_id, sweep_id: as in its `sweep.json`.
    """

    def __init__(
        self, sweep: Path, tracking_uri: str, experiment_id: str, parent_run_id: str, sweep_id: str
    ) -> None:
        self.sweep = sweep
        self._sender = Sender(sweep, tracking_uri, experiment_id, parent_run_id, sweep_id)
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._sent: dict[str, int] = {}
        """Spools that have been sent whole, and their size in bytes then."""
        self._last_tried = ""
        self._progress = 0.0
        self._told: set[str] = set()

    @property
    def client(self) -> MlflowClient:
        """The client it sends with."""
        return self._sender.client

    @property
    def experiment_id(self) -> str:
        """The experiment of the sweep's runs."""
        return self._sender.experiment_id

    @property
    def parent_run_id(self) -> str:
        """The sweep's own run."""
        return self._sender.parent_run_id

    def start(self) -> None:
        """Send what is spooled, from now on, in a thread."""
        self._closing.clear()
        self._abandoned.clear()
        self._thread = threading.Thread(target=self._run, name="mlflow-flusher", daemon=True)
        self._thread.start()

    def close(self) -> Delivery:
        """Send what is left, then stop; returns what could not be sent.

        Gives up when the store has taken nothing for `PATIENCE_SECONDS`; the rest stays spooled.
        """
        if self._thread is None or not self._thread.is_alive():
            self.start()
        self._closing.set()
        self._join()
        return Delivery(self.pending(), self.quarantined())

    def pending(self) -> int:
        """How many spooled records have not been sent."""
        return sum(count_unsent(self._path(name)) for name, _ in self._unsent())

    def quarantined(self) -> int:
        """How many records the store has rejected for good."""
        return count_quarantined(self.sweep)

    def flush(self) -> bool:
        """Send every spooled record; False if one could not be sent for now.

        One run's trouble keeps no other from being sent. The store's ends the round, and the next
        begins behind the spool at which it ended.
        """
        lock = self._lock()
        if lock is None:
            return False
        with lock:
            return self._round()

    def _lock(self) -> IO[str] | None:
        return try_lock(self.sweep / FOLDER / LOCK)

    def _run(self) -> None:
        while (lock := self._lock()) is None:
            # Another process sends this sweep's records; it may end.
            if self._abandoned.wait(0.1):
                return
        with lock:
            while not self._closing.is_set():
                self._closing.wait(FLUSH_SECONDS if self._try_round() else RETRY_SECONDS)
            # The second for a connection that had gone stale.
            _ = self._try_round() or self._try_round()

    def _join(self) -> None:
        assert self._thread is not None
        self._progress = time.monotonic()
        told = False
        while self._thread.is_alive():
            self._thread.join(0.1)
            idle = time.monotonic() - self._progress
            if idle > PATIENCE_SECONDS:
                self._abandoned.set()
                self._thread.join(1.0)
                logger.warning(
                    "the MLflow store has taken nothing for %.0f s: %d record(s) wait in %s",
                    *(idle, self.pending(), self.sweep / FOLDER),
                )
                return
            if idle > PATIENCE_SECONDS / 3 and not told:
                told = True
                logger.warning(
                    "waiting up to %.0f s for the MLflow store to take the last %d record(s)",
                    *(PATIENCE_SECONDS, self.pending()),
                )

    def _try_round(self) -> bool:
        try:
            return self._round()
        except Exception:
            # A folder that cannot be read, say: the trials go on.
            logger.exception("sending to the MLflow store failed, will retry")
            return False

    def _round(self) -> bool:
        complete, started = True, time.monotonic()
        for name, size in self._unsent():
            idle = time.monotonic() - max(started, self._progress)
            if idle > PATIENCE_SECONDS:
                return False
            self._last_tried = name
            try:
                whole = self._flush_spool(name)
            except Exception as error:
                complete = False
                if is_store_error(error):
                    self._tell(THE_STORE, f"the MLflow store does not answer: {reason(error)}")
                    return False
                self._tell(name, f"the MLflow store does not take {name} now: {reason(error)}")
                continue
            if not whole:
                return False
            self._sent[name] = size
            self._told -= {name, THE_STORE}
        return complete

    def _unsent(self) -> list[tuple[str, int]]:
        """Spools that may have something to send, with their sizes, behind the last tried first.

        By size, so that those of trials that have ended cost one look into the folder.
        """
        try:
            with os.scandir(self.sweep / FOLDER) as entries:
                spools = [entry for entry in entries if entry.name.endswith(SUFFIX)]
                sizes = {e.name.removesuffix(SUFFIX): e.stat().st_size for e in spools}
        except FileNotFoundError:
            return []
        names = sorted(name for name, size in sizes.items() if self._sent.get(name) != size)
        first = bisect.bisect_right(names, self._last_tried)
        return [(name, sizes[name]) for name in names[first:] + names[:first]]

    def _path(self, name: str) -> Path:
        return self.sweep / FOLDER / f"{name}{SUFFIX}"

    def _flush_spool(self, name: str) -> bool:
        """Send what is new in a spool; False if it was told to stop before the end."""
        state = state_of(self._path(name))
        if name == SWEEP:
            state.run_id = self.parent_run_id
        for batch in batches(read_spool(self._path(name), state.offset)):
            if self._abandoned.is_set():
                return False
            if state.run_id is None:
                state.run_id = self._sender.find_or_create(name, batch[0].record)
                state.save()
            self._send(name, batch, state)
        return True

    def _send(self, name: str, lines: Sequence[Line], state: SpoolState) -> None:
        """Send a batch; of one that is rejected, all but the records that are to blame."""
        rejection = self._try_send(name, lines, state)
        if rejection is not None and len(lines) > 1:
            half = len(lines) // 2
            self._send(name, lines[:half], state)
            self._send(name, lines[half:], state)
            return
        if rejection is not None:
            logger.warning("the MLflow store rejected a record of %s: %s", name, reason(rejection))
            quarantine(self._path(name), lines[0], rejection)
        state.offset = lines[-1].end
        state.save()
        self._progress = time.monotonic()

    def _try_send(self, name: str, lines: Sequence[Line], state: SpoolState) -> Exception | None:
        assert state.run_id is not None
        try:
            self._sender.send(state.run_id, name, lines)
        except Exception as error:
            if is_rejection(error) or self._sender.is_gone(error):
                return error
            raise
        return None

    def _tell(self, name: str, message: str) -> None:
        """Warn once an outage; at every retry it would bury everything else."""
        level = logging.DEBUG if name in self._told else logging.WARNING
        self._told.add(name)
        logger.log(level, "%s; will retry", message)
