"""What a sweep leaves behind when something fails: nothing that still runs."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from rdmodels.data.splits import Splits
from rdmodels.errors import ConfigError
from rdmodels.results.sweep import SweepInfo
from sweep.directory import open_sweep
from sweep.run import closing
from sweep.run.closing import OpenSweep
from sweep.run.launch import run_sweep
from sweep.run.progress import SweepProgress
from sweep.search.study import STUDY_FILE, SweepStudy
from tests.conftest import CORNER, DATA
from tests.sweep.search.test_search import spec_with
from tests.sweep.spec.test_spec import BASE

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]

SPEC = spec_with("search={sampler: random, trials: 2}")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "sweeps" / "one"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for all: to make a new one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def info(directory: Path, store: str) -> SweepInfo:
    return open_sweep(SPEC, BASE, directory, store, CORNER, DATA)


@pytest.fixture
def progress() -> SweepProgress:
    return SweepProgress(trials=2, epochs_each=1, corner=CORNER)


def runs_of(info: SweepInfo) -> dict[str, Run]:
    """The sweep's runs by trial id, its parent as "sweep"."""
    client = MlflowClient(info.tracking_uri)
    runs = client.search_runs([info.experiment_id], f"tags.sweep_id = '{info.sweep_id}'")
    return {run.data.tags.get("trial_id", "sweep"): run for run in runs}


def last_end(directory: Path) -> dict[str, Any]:
    lines = (directory / "spool" / "sweep.jsonl").read_text().splitlines()
    record: dict[str, Any] = json.loads(lines[-1])
    return record


def test_a_study_that_does_not_open_closes_the_parent_run(
    directory: Path, info: SweepInfo, progress: SweepProgress, digits: Splits
) -> None:
    (directory / STUDY_FILE).write_text("no study\n")
    with pytest.raises(ConfigError, match=STUDY_FILE):
        run_sweep(SPEC, digits, directory, info, progress)
    run = runs_of(info)["sweep"]
    assert run.info.status == "FAILED"
    assert run.data.tags["status"] == "failed"
    assert "ConfigError" in run.data.tags["error"]
    assert STUDY_FILE in run.data.tags["error"]


def leave(directory: Path, info: SweepInfo, progress: SweepProgress, error: BaseException) -> None:
    """Leave a sweep by `error` while one trial runs whose process has written nothing."""
    with OpenSweep(SPEC, directory, info, progress) as sweep:
        sweep.open().ask()
        progress.running["t0000"] = 3
        raise error


@pytest.mark.parametrize(
    ("error", "status", "tag"),
    [(ValueError("why"), "FAILED", "failed"), (KeyboardInterrupt(), "KILLED", "stopped")],
)
def test_what_was_open_is_closed_by_an_error_and_by_an_interrupt(
    error: BaseException,
    status: str,
    tag: str,
    directory: Path,
    info: SweepInfo,
    progress: SweepProgress,
) -> None:
    with pytest.raises(type(error)):
        leave(directory, info, progress, error)
    runs = runs_of(info)
    assert (runs["sweep"].info.status, runs["sweep"].data.tags["status"]) == (status, tag)
    assert runs["sweep"].data.tags.get("error") == ("ValueError: why" if tag == "failed" else None)
    assert (runs["t0000"].info.status, runs["t0000"].data.tags["status"]) == ("KILLED", "stopped")
    assert runs["t0000"].data.params["width"] == str(SPEC.base.width)
    assert SweepStudy(directory, info.sweep_id, SPEC).open_trials() == []
    assert (progress.running, progress.standing.stopped) == ({}, 1)


@pytest.mark.parametrize("step", ["standing_of", "write_end"])
def test_a_closing_step_that_fails_leaves_the_others_their_turn(
    step: str,
    directory: Path,
    info: SweepInfo,
    progress: SweepProgress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(closing, step, fail)
    with pytest.raises(KeyboardInterrupt):
        leave(directory, info, progress, KeyboardInterrupt())
    assert runs_of(info)["sweep"].info.status == "KILLED"
    # Without another error the failure itself is told.
    with pytest.raises(OSError, match="no space"), OpenSweep(SPEC, directory, info, progress) as s:
        s.open().ask()
    assert last_end(directory)["status"] == "stopped"


def test_one_trial_whose_end_cannot_be_written_leaves_the_others_theirs(
    directory: Path, info: SweepInfo, progress: SweepProgress
) -> None:
    # A folder where the file should be.
    (directory / "spool" / "t0000.jsonl").mkdir(parents=True)
    with pytest.raises(IsADirectoryError), OpenSweep(SPEC, directory, info, progress) as sweep:
        _ = [study.ask() for study in [sweep.open()] * 2]
    assert '"end"' in (directory / "spool" / "t0001.jsonl").read_text()
    assert last_end(directory)["kind"] == "end"


@pytest.mark.parametrize(("told", "status"), [(1, "stopped"), (2, "complete")])
def test_a_sweep_is_complete_when_all_its_trials_are_done(
    told: int, status: str, directory: Path, info: SweepInfo, progress: SweepProgress
) -> None:
    with OpenSweep(SPEC, directory, info, progress) as sweep:
        study = sweep.open()
        study.ask()
        study.ask()
        study.fail("t0000", "ValueError: why")
        if told == 2:
            study.prune("t0001", {})
    assert sweep.delivery == (0, 0)
    runs = runs_of(info)
    assert runs["sweep"].data.tags["status"] == status
    # An end that nobody has written yet is written from the study.
    assert runs["t0000"].data.tags["error"] == "ValueError: why"
    assert runs["t0001"].data.tags["status"] == ("stopped" if told == 1 else "pruned")
