"""What a sweep has open while it runs, and how it is closed whatever happens."""

import logging
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from rdmodels.results.sweep import SweepInfo
from sweep.directory import make_flusher
from sweep.run.ending import write_end
from sweep.run.progress import SweepProgress, standing_of
from sweep.run.reason import reason_of
from sweep.search.study import SweepStudy
from sweep.spec.spec import SweepSpec
from sweep.tracking.flusher import Flusher
from sweep.tracking.quarantine import Delivery
from sweep.tracking.spool import Spool

STOPPED = "the sweep was stopped"

logger = logging.getLogger(__name__)


class OpenSweep:
    """A sweep whose parent run is open: study and flusher are opened inside, all is closed after.

    Trials, parent run and flusher are each closed whatever became of the others. An exception from
    inside goes on; the parent run then fails with it, or is stopped by an interrupt.
    """

    def __init__(
        self, spec: SweepSpec, directory: Path, info: SweepInfo, progress: SweepProgress
    ) -> None:
        self.spec = spec
        self.directory = directory
        self.info = info
        self.progress = progress
        self.delivery = Delivery(0, 0)
        self._study: SweepStudy | None = None
        self._flusher: Flusher | None = None

    def __enter__(self) -> Self:
        return self

    def open(self) -> SweepStudy:
        """Start sending to the store; the study, ready to propose."""
        self._flusher = make_flusher(self.directory, self.info)
        self._flusher.start()
        self._study = SweepStudy(self.directory, self.info.sweep_id, self.spec)
        return self._study

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with ExitStack() as steps:
                # The last one first.
                steps.callback(self._send)
                steps.callback(self._end_parent, error)
                steps.callback(self._end_trials)
        except Exception:
            if error is None:
                raise
            # What ended the sweep is what the user must see.
            logger.exception("the sweep could not be closed")

    def _end_trials(self) -> None:
        """End what was running: Ray tells nobody about those trials."""
        self.progress.running.clear()
        if self._study is None:
            return
        for trial_id in self._study.open_trials():
            self._study.stop(trial_id, STOPPED)
        trials = self._study.ended_trials()
        self.progress.standing = standing_of(trials, self.progress.corner)
        with ExitStack() as steps:
            for trial in trials:
                steps.callback(write_end, self.directory, self.spec.base, trial)

    def _end_parent(self, error: BaseException | None) -> None:
        spool = Spool(self.directory, "sweep")
        if isinstance(error, Exception):
            spool.end("failed", reason_of(error))
        else:
            done = error is None and self.progress.standing.done == self.progress.trials
            spool.end("complete" if done else "stopped")

    def _send(self) -> None:
        flusher = self._flusher or make_flusher(self.directory, self.info)
        self.delivery = flusher.close()
