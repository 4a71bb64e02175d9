"""Running a sweep: builds its Ray Tuner, runs it, publishes its report."""

from dataclasses import dataclass
from pathlib import Path

from ray import tune

from rdmodels.data.splits import Splits
from rdmodels.results.sweep import SweepInfo
from sweep.directory import publish_report
from sweep.run.callback import SweepCallback
from sweep.run.closing import OpenSweep
from sweep.run.progress import SweepProgress
from sweep.run.trial import run_trial_on_ray
from sweep.search.searcher import OptunaSearcher
from sweep.spec.spec import SweepSpec
from sweep.tracking.quarantine import Delivery

RAY = "ray"


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended. `delivery`: records of it that the MLflow store has not got."""

    directory: Path
    progress: SweepProgress
    delivery: Delivery


def run_sweep(
    spec: SweepSpec,
    splits: Splits,
    directory: Path,
    info: SweepInfo,
    progress: SweepProgress,
) -> Outcome:
    """Run the sweep that `open_sweep` created, on a Ray that `start_ray` started.

    A trial that fails never takes the sweep with it. When the trials are done, the time budget is
    spent, the user interrupts or anything here fails, every trial and run that was open is closed.

    Raises:
        ConfigError: if the directory holds a study that is damaged or another sweep's.
    """
    directory = directory.resolve()
    with OpenSweep(spec, directory, info, progress) as sweep:
        study = sweep.open()
        callback = SweepCallback(spec, directory, study, progress)
        _make_tuner(spec, splits, directory, OptunaSearcher(study), callback).fit()
    if not sweep.delivery.unsent:
        publish_report(directory)
    return Outcome(directory, progress, sweep.delivery)


def _make_tuner(
    spec: SweepSpec,
    splits: Splits,
    directory: Path,
    searcher: OptunaSearcher,
    callback: SweepCallback,
) -> tune.Tuner:
    trainable = tune.with_parameters(
        run_trial_on_ray,
        base=spec.base,
        splits=splits,
        sweep=directory,
        device="cuda" if spec.resources.gpu else "cpu",
        threads=spec.resources.cpu,
    )
    resources = {"cpu": spec.resources.cpu, "gpu": spec.resources.gpu}
    return tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=spec.num_trials,
            max_concurrent_trials=spec.resources.concurrent,
            time_budget_s=spec.search.time_budget_s,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=RAY,
            storage_path=str(directory),
            callbacks=[callback],
            verbose=0,
        ),
    )
