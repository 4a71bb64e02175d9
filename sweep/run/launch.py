"""launch(): builds the Ray Tuner for a sweep, runs it, and closes everything it opened."""

import logging
from dataclasses import dataclass
from pathlib import Path

from ray import tune

from rdmodels.data.splits import Splits
from rdmodels.results.sweep import SweepInfo
from sweep.directory import make_flusher, publish_report
from sweep.run.progress import ProgressCallback, SweepProgress, TrialEndHandler
from sweep.run.trial import ray_trial
from sweep.search.searcher import OptunaSearcher
from sweep.search.study import SweepStudy
from sweep.spec.spec import SweepSpec
from sweep.tracking.spool import Spool

RAY = "ray"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended. `unsent`: records that wait in the spool for the MLflow store."""

    directory: Path
    progress: SweepProgress
    unsent: int


def launch(
    spec: SweepSpec,
    splits: Splits,
    directory: Path,
    info: SweepInfo,
    progress: SweepProgress,
) -> Outcome:
    """Run the sweep that `open_sweep` created, on a Ray that `start_ray` started.

    A trial that fails never takes the sweep with it. When the trials are done, the time budget is
    spent or the user interrupts, every trial and run that was open is closed.
    """
    directory = directory.resolve()
    flusher = make_flusher(directory, info)
    flusher.start()
    study = SweepStudy(directory, info.sweep_id, spec)
    finished = False
    try:
        _run(spec, splits, directory, study, progress)
        finished = not study.open_trials()
    finally:
        progress.running = 0
        _close_open(study, directory, progress)
        done = finished and progress.complete + progress.failed == progress.trials
        Spool(directory, "sweep").end("complete" if done else "stopped")
        unsent = flusher.close().unsent
    if not unsent:
        publish_report(directory)
    return Outcome(directory, progress, unsent)


def _run(
    spec: SweepSpec, splits: Splits, directory: Path, study: SweepStudy, progress: SweepProgress
) -> None:
    ended = TrialEndHandler(directory, spec, progress)
    trainable = tune.with_parameters(
        ray_trial,
        base=spec.base,
        splits=splits,
        sweep=directory,
        device="cuda" if spec.resources.gpu else "cpu",
        threads=spec.resources.cpu,
    )
    resources = {"cpu": spec.resources.cpu, "gpu": spec.resources.gpu}
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearcher(study, ended),
            num_samples=spec.num_trials,
            max_concurrent_trials=spec.resources.concurrent,
            time_budget_s=spec.search.time_budget_s,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=RAY,
            storage_path=str(directory),
            callbacks=[ProgressCallback(progress)],
            verbose=0,
        ),
    )
    tuner.fit()


def _close_open(study: SweepStudy, directory: Path, progress: SweepProgress) -> None:
    """End what was running when the sweep stopped: Ray tells nobody about those trials."""
    for trial_id in study.open_trials():
        study.fail(trial_id, "the sweep was stopped")
        Spool(directory, trial_id).end("stopped")
        progress.stopped += 1
