"""What Ray Tune tells a sweep: a trial starts, reports, ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from sweep.run.ending import tell_end, write_end
from sweep.run.progress import SweepProgress, standing_of
from sweep.run.reason import trial_reason
from sweep.search.study import SweepStudy
from sweep.spec.spec import SweepSpec
from sweep.tracking.spool import Spool


class SweepCallback(tune.Callback):  # type: ignore[misc]
    """Keeps a sweep's study, spools and progress in step with its Ray trials."""

    def __init__(
        self, spec: SweepSpec, directory: Path, study: SweepStudy, progress: SweepProgress
    ) -> None:
        self.base = spec.base
        self.directory = directory
        self.study = study
        self.progress = progress

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles callbacks into snapshots that nobody reads.
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self.progress.running[_id(trial)] = 0

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if not result.get("final"):
            self.progress.epoch(_id(trial), result["epoch"] + 1)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        report = trial.last_result or {}
        self._end(trial, lambda: tell_end(self.study, self.directory, _id(trial), report))

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self._end(trial, lambda: self.study.fail(_id(trial), trial_reason(trial)))

    def _end(self, trial: Trial, tell: Callable[[], None]) -> None:
        """The study first: what is not in the spool yet can be written from it later."""
        trial_id = _id(trial)
        self.progress.running.pop(trial_id, None)
        if trial_id not in self.study.open_trials():
            # Ray tells a second end of a trial whose first one it could not finish.
            return
        tell()
        trials, progress = self.study.ended_trials(), self.progress
        progress.standing = standing_of(trials, progress.corner)
        (ended,) = (each for each in trials if each.trial_id == trial_id)
        write_end(self.directory, self.base, ended)
        if progress.announce is not None:
            figures = "" if ended.bpp is None else f"  bpp {ended.bpp:.4g}"
            done = f"{progress.standing.done}/{progress.trials}"
            progress.announce(f"{done} {trial_id} {ended.status}{figures}")
        write_standing(self.directory, progress)


def write_standing(directory: Path, progress: SweepProgress) -> None:
    """Record where the sweep stands with its parent run; the step is the trials that are done."""
    standing = progress.standing
    Spool(directory, "sweep").metrics(
        {
            "hypervolume": standing.hypervolume,
            "trials/complete": standing.complete,
            "trials/failed": standing.failed,
        },
        step=standing.done,
    )


def _id(trial: Trial) -> str:
    """The trial's id in the sweep: Ray's own is another."""
    trial_id: str = trial.config["trial_id"]
    return trial_id
