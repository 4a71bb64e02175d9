"""A sweep's directory: made at launch, with its experiment and parent run; read ever after."""

import json
import logging
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.store.sweeps import store_uri
from rdmodels import checkpoint
from rdmodels.errors import ConfigError
from rdmodels.results.sweep import ARTIFACTS, REPORT, SWEEP_FILE, SweepInfo, read_info
from sweep.spec.spec import SweepSpec
from sweep.tracking import store
from sweep.tracking.flusher import Flusher
from sweep.tracking.spool import Spool

logger = logging.getLogger(__name__)


def check_output(directory: Path) -> None:
    """Raise ConfigError if `directory` cannot become a new sweep's."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        what = "holds a sweep" if (directory / SWEEP_FILE).exists() else "is in use"
        raise ConfigError(f"--output {directory} {what} already: choose a new directory")


def open_sweep(
    spec: SweepSpec, values: Mapping[str, Any], directory: Path, tracking_uri: str | None
) -> SweepInfo:
    """Create the sweep's directory, its experiment and its parent run; returns `sweep.json`.

    Raises:
        ConfigError: if the directory is in use.
        TrackingError: if the MLflow store does not answer; nothing has been written then.
    """
    check_output(directory)
    uri = store.absolute_uri(tracking_uri or store.default_tracking_uri(directory))
    artifacts = directory.resolve().parent / ARTIFACTS
    client, experiment_id = store.open_experiment(uri, spec.name, artifacts)
    created = datetime.now(UTC)
    sweep_id = f"{spec.name}-{created:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    params = {
        "sampler": spec.search.sampler,
        "trials": spec.num_trials,
        "search_seed": spec.search.seed,
        "space": json.dumps(values["space"]),
        **spec.trial,
    }
    parent_run_id = store.create_parent(client, experiment_id, sweep_id, sweep_id, params)
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


def make_flusher(directory: Path, info: SweepInfo) -> Flusher:
    """The flusher of the sweep in `directory`."""
    return Flusher(
        directory,
        store_uri(directory, info),
        info.experiment_id,
        info.parent_run_id,
        info.sweep_id,
    )


def send_unsent(directory: Path) -> int:
    """Send what an earlier launch left in its spool; returns how many records still wait.

    What has been sent late is followed by the report. A launch that is running sends for itself.
    """
    flusher = make_flusher(directory, read_info(directory))
    if not flusher.pending() or not flusher.lock(wait=False):
        return 0
    unsent = flusher.close()
    if not unsent:
        publish_report(directory)
    return unsent


def publish_report(directory: Path) -> None:
    """Write the sweep's report and store it with the parent run, the frontier in its description.

    What goes wrong here is logged: a sweep does not fail for its report.
    """
    from analysis.report.report import write_report
    from analysis.store.runs import read_sweep

    try:
        files = write_report(read_sweep(directory), directory / REPORT)
        frontier = json.loads(files.frontier_json.read_text())
        spool = Spool(directory, "sweep")
        for file in files:
            spool.artifact(file)
        spool.tags({"mlflow.note.content": frontier_note(frontier["points"])})
        make_flusher(directory, read_info(directory)).close()
    except Exception:
        logger.exception("the report could not be stored with the sweep's run")


def frontier_note(points: list[Mapping[str, Any]]) -> str:
    """The frontier as a markdown table, for the parent run's description in MLflow's UI."""
    names = ["trial_id", "beta", "num_latent_channels", "h_target"]
    names += ["val_bpp", "val_psnr_db", "test_bpp", "test_psnr_db"]
    rows = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for point in points:
        cells = (point.get(name) for name in names)
        shown = (f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells)
        rows.append("| " + " | ".join(shown) + " |")
    return "Pareto frontier; `report/report.html` is among the artifacts.\n\n" + "\n".join(rows)
