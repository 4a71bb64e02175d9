"""launch(): builds the Ray Tuner for a sweep, runs it, and closes everything it opened."""

import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from analysis.sweeps import SweepInfo
from rdmodels.config import ConfigError
from rdmodels.data import Splits
from sweep.directory import make_flusher, publish_report
from sweep.progress import Progress, ProgressCallback, TrialEnds
from sweep.resources import check_resources
from sweep.search import OptunaSearcher, SweepStudy
from sweep.spec import SweepSpec
from sweep.spool import Spool
from sweep.trial import ray_trial

RAY = "ray"
ADDRESS_SECONDS = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended. `unsent`: records that wait in the spool for the MLflow store."""

    directory: Path
    progress: Progress
    unsent: int


def start_ray(spec: SweepSpec, address: str | None) -> None:
    """Connect to the cluster at `address`, or start Ray on this machine.

    Raises:
        ConfigError: if the cluster does not answer, or no trial fits.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, **quiet)
    else:
        check_address(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--address {address}: no Ray cluster answers ({error})") from error
    if not logger.isEnabledFor(logging.DEBUG):
        # Ray logs every failed trial's trace at once; ours are in the tracker and at the end.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    have = ray.cluster_resources()
    check_resources(spec, cpus=have.get("CPU", 0), gpus=have.get("GPU", 0))


def check_address(address: str) -> None:
    """Raise ConfigError if nothing listens at host:port: Ray itself would try for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator:
        return
    try:
        with socket.create_connection((host, int(port)), timeout=ADDRESS_SECONDS):
            return
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers ({error});"
            " leave it out to start Ray here"
        ) from error


def launch(
    spec: SweepSpec,
    splits: Splits,
    directory: Path,
    info: SweepInfo,
    progress: Progress,
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
        unsent = flusher.close()
    if not unsent:
        publish_report(directory)
    return Outcome(directory, progress, unsent)


def _run(
    spec: SweepSpec, splits: Splits, directory: Path, study: SweepStudy, progress: Progress
) -> None:
    ended = TrialEnds(directory, spec, progress)
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


def _close_open(study: SweepStudy, directory: Path, progress: Progress) -> None:
    """End what was running when the sweep stopped: Ray tells nobody about those trials."""
    for trial_id in study.open_trials():
        study.fail(trial_id, "the sweep was stopped")
        Spool(directory, trial_id).end("stopped")
        progress.stopped += 1
