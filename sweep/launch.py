"""launch(): builds the Ray Tuner for a sweep, runs it, and closes everything it opened."""

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Before Ray is imported: no usage reports, no per-result CSV and JSON files, state every minute,
# and the output engine that keeps silent when it is told to.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "60")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune

from analysis.frontier import hypervolume, pareto_mask, quality_of
from analysis.sweeps import SWEEP_FILE, SweepInfo, read_info
from rdmodels import checkpoint
from rdmodels.config import ConfigError, TrialConfig, override
from rdmodels.data import Splits
from rdmodels.results import EpochRecord, Metrics
from sweep import tracking
from sweep.search import OptunaSearcher, Status, SweepStudy
from sweep.spec import SweepSpec
from sweep.spool import FOLDER, Spool, last_record
from sweep.trial import RECONSTRUCTIONS, run_trial

TRIALS = "trials"
RAY = "ray"

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a running sweep stands; written by Ray's thread, read by whoever shows it."""

    trials: int
    epochs_in_all: int
    started: float = field(default_factory=time.monotonic)
    running: int = 0
    complete: int = 0
    failed: int = 0
    stopped: int = 0
    epochs: int = 0
    points: list[tuple[str, float, float]] = field(default_factory=list)
    hypervolume: float = 0.0
    errors: list[str] = field(default_factory=list)

    def front(self) -> list[tuple[str, float, float]]:
        """The points (trial id, bpp, quality) that no other one beats, ascending in rate."""
        points = sorted(self.points, key=lambda point: (point[1], -point[2]))
        kept = pareto_mask([(bpp, value) for _, bpp, value in points])
        return [point for point, keep in zip(points, kept, strict=True) if keep]

    @property
    def seconds_left(self) -> float | None:
        """From the epochs so far; None before the first."""
        if not self.epochs:
            return None
        elapsed = time.monotonic() - self.started
        return elapsed * max(0, self.epochs_in_all - self.epochs) / self.epochs


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended. `unsent`: records that wait in the spool for the MLflow store."""

    directory: Path
    progress: Progress
    unsent: int


def quality(metrics: Metrics, distortion: str) -> float | None:
    """What the frontier maximises: PSNR in dB, or MS-SSIM."""
    value: float | None = getattr(metrics, quality_of(distortion).name)
    return value


def objective(metrics: Metrics, distortion: str) -> float:
    """The distortion that the search minimises: MSE on [0, 1], or 1 - MS-SSIM."""
    if distortion == "ms_ssim":
        assert metrics.ms_ssim is not None
        return 1.0 - metrics.ms_ssim
    return metrics.mse


def check_output(directory: Path) -> None:
    """Raise ConfigError if `directory` cannot become a new sweep's."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        what = "holds a sweep" if (directory / SWEEP_FILE).exists() else "is in use"
        raise ConfigError(f"--output {directory} {what} already: choose a new directory")


def check_resources(spec: SweepSpec, *, cpus: float, gpus: float) -> None:
    """Raise ConfigError if not even one trial fits: Ray would wait for ever."""
    wanted = spec.resources
    if wanted.gpu > gpus:
        raise ConfigError(
            f"resources.gpu is {wanted.gpu:g} a trial, but there are {gpus:g} GPUs:"
            " set resources.gpu to 0 to train on the CPU"
        )
    if wanted.cpu > cpus:
        raise ConfigError(
            f"resources.cpu is {wanted.cpu} a trial, but there are {cpus:g} CPUs: lower it"
        )


def open_sweep(
    spec: SweepSpec, values: Mapping[str, Any], directory: Path, tracking_uri: str | None
) -> SweepInfo:
    """Create the sweep's directory, its experiment and its parent run; returns `sweep.json`.

    Raises:
        ConfigError: if the directory is in use.
        TrackingError: if the MLflow store does not answer; nothing has been written then.
    """
    check_output(directory)
    uri = tracking_uri or tracking.default_tracking_uri(directory)
    artifacts = directory.resolve().parent / "mlflow-artifacts"
    client, experiment_id = tracking.open_experiment(uri, spec.name, artifacts)
    created = datetime.now(UTC)
    sweep_id = f"{spec.name}-{created:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    params = {
        "sampler": spec.search.sampler,
        "trials": spec.num_trials,
        "search_seed": spec.search.seed,
        "space": json.dumps(values["space"]),
        **spec.trial,
    }
    parent_run_id = tracking.create_parent(client, experiment_id, sweep_id, sweep_id, params)
    info = SweepInfo(
        sweep_id=sweep_id,
        name=spec.name,
        tracking_uri=uri,
        experiment_id=experiment_id,
        parent_run_id=parent_run_id,
        space=tuple(spec.space),
        distortion=spec.base.distortion,
        hypervolume_reference=spec.hypervolume_reference.model_dump(),
        created=created,
        config=dict(values),
    )
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint.write_text(directory / SWEEP_FILE, info.model_dump_json(indent=2) + "\n")
    return info


def make_flusher(directory: Path, info: SweepInfo) -> tracking.Flusher:
    """The flusher of the sweep in `directory`."""
    return tracking.Flusher(
        directory, info.tracking_uri, info.experiment_id, info.parent_run_id, info.sweep_id
    )


def start_ray(spec: SweepSpec, address: str | None) -> None:
    """Connect to the cluster at `address`, or start Ray on this machine.

    Raises:
        ConfigError: if the cluster does not answer, or no trial fits.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        cpus = max(os.cpu_count() or 1, spec.resources.cpu * spec.resources.concurrent)
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    else:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--address {address}: no Ray cluster answers ({error})") from error
    if not logger.isEnabledFor(logging.DEBUG):
        # Ray logs every failed trial's trace at once; ours are in the tracker and at the end.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    have = ray.cluster_resources()
    check_resources(spec, cpus=have.get("CPU", 0), gpus=have.get("GPU", 0))


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
    return Outcome(directory, progress, unsent)


def _run(
    spec: SweepSpec, splits: Splits, directory: Path, study: SweepStudy, progress: Progress
) -> None:
    ended = _TrialEnds(directory, spec, progress)
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
            callbacks=[_ProgressCallback(progress)],
            verbose=0,
        ),
    )
    tuner.fit()


def ray_trial(
    params: Mapping[str, Any],
    *,
    base: TrialConfig,
    splits: Splits,
    sweep: Path,
    device: str,
    threads: int,
) -> None:
    """One trial as Ray runs it: `run_trial` with its spool and Ray's own report."""
    import torch

    torch.set_num_threads(threads)
    trial_id: str = params["trial_id"]
    spool = Spool(sweep, trial_id)
    directory = sweep / TRIALS / trial_id
    try:
        config = override(base, params["overrides"])
        shown = " ".join(f"{k}={_short(v)}" for k, v in params["overrides"].items())
        spool.start(f"{trial_id} {shown}", config.model_dump(), {"status": "running"})

        def report(record: EpochRecord) -> None:
            spool.metrics(record.metrics(), record.epoch)
            tune.report({"epoch": record.epoch, "bpp": record.val.bpp})

        result = run_trial(config, splits, directory, report, device=device)
        spool.metrics(result.metrics())
        spool.artifact(directory / RECONSTRUCTIONS)
        spool.image(directory / RECONSTRUCTIONS, "reconstructions")
        spool.model(directory, [checkpoint.MODEL, checkpoint.CONFIG])
        final = {
            "final": True,
            "epoch": result.epochs,
            "bpp": result.best.bpp,
            "distortion": objective(result.best, config.distortion),
            "quality": quality(result.best, config.distortion),
        }
    except Exception as error:
        spool.tags({"error": f"{type(error).__name__}: {error}"[: tracking.TAG_LIMIT]})
        raise
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()
    tune.report(final)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class _TrialEnds:
    """What happens when a trial ends by itself: its spool is closed, the progress counted."""

    def __init__(self, directory: Path, spec: SweepSpec, progress: Progress) -> None:
        self.directory = directory
        self.reference = spec.hypervolume_reference.model_dump()
        self.distortion = spec.base.distortion
        self.progress = progress

    def __call__(self, trial_id: str, status: Status, result: Mapping[str, Any]) -> None:
        progress = self.progress
        if status == "complete":
            progress.complete += 1
            if result["quality"] is not None:
                progress.points.append((trial_id, result["bpp"], result["quality"]))
            points = [(bpp, value) for _, bpp, value in progress.points]
            progress.hypervolume = hypervolume(points, self.reference, self.distortion)
        error = None
        if status == "failed":
            progress.failed += 1
            error = _error_of(self.directory, trial_id)
            progress.errors.append(f"{trial_id}: {error}")
        Spool(self.directory, trial_id).end(status, error)
        Spool(self.directory, "sweep").metrics(
            {
                "hypervolume": progress.hypervolume,
                "trials/complete": progress.complete,
                "trials/failed": progress.failed,
            },
            step=progress.complete + progress.failed,
        )


def _error_of(directory: Path, trial_id: str) -> str:
    record = last_record(directory / FOLDER / f"{trial_id}.jsonl") or {}
    error: str | None = record.get("tags", {}).get("error")
    return error or "the trial's process ended without a word: out of memory, or killed"


class _ProgressCallback(tune.Callback):  # type: ignore[misc]
    """Counts; cannot raise, since that would end the sweep."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles callbacks into snapshots that nobody reads.
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._add(1)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._add(-1)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._add(-1)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if not result.get("final"):
            self.progress.epochs += 1

    def _add(self, count: int) -> None:
        with self._lock:
            self.progress.running = max(0, self.progress.running + count)


def _close_open(study: SweepStudy, directory: Path, progress: Progress) -> None:
    """End what was running when the sweep stopped: Ray tells nobody about those trials."""
    for trial_id in study.open_trials():
        study.fail(trial_id, "the sweep was stopped")
        Spool(directory, trial_id).end("stopped")
        progress.stopped += 1


def send_unsent(directory: Path) -> int:
    """Send what an earlier launch left in its spool; returns how many records still wait."""
    return make_flusher(directory, read_info(directory)).close()
