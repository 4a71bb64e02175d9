"""A sweep's directory: made at launch, with its experiment and parent run; read ever after."""

import json
import logging
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.store.sweeps import store_uri
from rdmodels import checkpoint
from rdmodels.data.splits import load_splits
from rdmodels.errors import ConfigError
from rdmodels.results.data import DataFingerprint
from rdmodels.results.quality import Corner, quality_of
from rdmodels.results.sweep import ARTIFACTS, REPORT, SWEEP_FILE, SweepInfo, read_info
from sweep.spec.spec import SweepSpec, make_spec
from sweep.tracking import store
from sweep.tracking.flusher import Flusher
from sweep.tracking.lock import is_locked
from sweep.tracking.quarantine import Delivery
from sweep.tracking.spool import FOLDER, LOCK, Spool

CLAIM = ".launching"
"""In a directory whose sweep is being made."""

logger = logging.getLogger(__name__)


def check_output(directory: Path, tracking_uri: str | None = None) -> None:
    """Raise ConfigError if `directory` cannot become a new sweep's, or a SQLite store not be kept.

    Args:
        tracking_uri: the MLflow store; None for the SQLite file beside the directory.
    """
    if (directory / CLAIM).exists():
        raise ConfigError(
            f"--output {directory} is taken by another launch: choose a new directory"
        )
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        what = "holds a sweep" if (directory / SWEEP_FILE).exists() else "is in use"
        raise ConfigError(f"--output {directory} {what} already: choose a new directory")
    check_writable(directory)
    uri = tracking_uri or store.default_tracking_uri(directory)
    database = store.database_file(uri)
    if database is not None:
        check_writable(database, "--tracking-uri" if tracking_uri else "--output")


def check_writable(path: Path, option: str = "--output") -> None:
    """Raise ConfigError if nothing can be written to `path`, a file or a directory to be.

    Writes to it, or makes and removes a file in the nearest folder above it that is there: what
    permission bits say does not count for root, nor on a read-only disk.
    """
    place = path.absolute()
    try:
        while not place.exists():
            place = place.parent
        if place.is_file() and place == path.absolute():
            with place.open("r+b"):
                return
        with tempfile.NamedTemporaryFile(dir=place, prefix=".rdsweep-") as file:
            file.write(b"\0")
            file.flush()
    except OSError as error:
        raise ConfigError(
            f"{option} {path} cannot be written ({place}: {error.strerror}): choose another place"
        ) from error


def open_sweep(
    spec: SweepSpec,
    values: Mapping[str, Any],
    directory: Path,
    tracking_uri: str | None,
    corner: Corner,
    data: DataFingerprint,
) -> SweepInfo:
    """Create the sweep's directory, its experiment and its parent run; returns `sweep.json`.

    Args:
        values: the YAML's, as `spec` was made from. corner: of the hypervolume. data: the images.

    Raises:
        ConfigError: if the directory is in use or cannot be written.
        TrackingError: if the MLflow store does not answer; the directory is as before then.
    """
    check_output(directory, tracking_uri)
    with _claimed(directory):
        info = _open_store(spec, values, directory, tracking_uri, corner, data)
        checkpoint.write_text(directory / SWEEP_FILE, info.model_dump_json(indent=2) + "\n")
    return info


@contextmanager
def _claimed(directory: Path) -> Iterator[None]:
    """Be the only launch that makes a sweep in `directory`; what fails leaves nothing there."""
    is_new = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    claim = directory / CLAIM
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        raise ConfigError(
            f"--output {directory} is taken by another launch: choose a new directory"
        ) from None
    try:
        if (directory / SWEEP_FILE).exists():
            raise ConfigError(
                f"--output {directory} holds a sweep already: choose a new directory"
            )
        yield
    except BaseException:
        claim.unlink()
        if is_new:
            # Not if somebody has put something there meanwhile.
            with suppress(OSError):
                directory.rmdir()
        raise
    claim.unlink()


def _open_store(
    spec: SweepSpec,
    values: Mapping[str, Any],
    directory: Path,
    tracking_uri: str | None,
    corner: Corner,
    data: DataFingerprint,
) -> SweepInfo:
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
    return SweepInfo(
        sweep_id=sweep_id,
        name=spec.name,
        tracking_uri=uri,
        experiment_id=experiment_id,
        parent_run_id=parent_run_id,
        space=tuple(spec.space),
        distortion=spec.base.distortion,
        hypervolume_reference={
            "bpp": corner.bpp,
            quality_of(spec.base.distortion).name: corner.quality_db,
        },
        data=data,
        created=created,
        config=dict(values),
    )


def data_change(info: SweepInfo) -> str | None:
    """What has changed in the sweep's images since its launch, in words; None if nothing.

    Also None where they are not here: a report may be written on another machine.
    """
    try:
        splits = load_splits(make_spec(info.config).base, download=False)
    except ConfigError as error:
        logger.info("the sweep's images were not compared: %s", error)
        return None
    return info.data.changes_to(splits.fingerprint)


def make_flusher(directory: Path, info: SweepInfo) -> Flusher:
    """The flusher of the sweep in `directory`."""
    return Flusher(
        directory,
        store_uri(directory, info),
        info.experiment_id,
        info.parent_run_id,
        info.sweep_id,
    )


def send_unsent(directory: Path) -> Delivery:
    """Send what an earlier launch left in its spool; returns what still is not in the store.

    What has been sent late is followed by the report. A launch that is running sends for itself,
    so none of its records counts as unsent.
    """
    flusher = make_flusher(directory, read_info(directory))
    if not flusher.pending() or is_locked(directory / FOLDER / LOCK):
        return Delivery(0, flusher.quarantined())
    delivery = flusher.close()
    if not delivery.unsent:
        publish_report(directory)
    return delivery


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
        spool.tags({"mlflow.note.content": frontier_note(frontier)})
        make_flusher(directory, read_info(directory)).close()
    except Exception:
        logger.exception("the report could not be stored with the sweep's run")


def frontier_note(document: Mapping[str, Any]) -> str:
    """What `frontier.json` says, for the parent run's description in MLflow's UI."""
    from analysis.report.markdown import frontier_markdown

    # MLflow refuses a longer tag.
    return frontier_markdown(document, longest=8000)
