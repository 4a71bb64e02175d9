"""What Ray tells a sweep, trial by trial."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweep.run.callback import SweepCallback
from sweep.run.progress import SweepProgress
from sweep.search.study import SweepStudy
from tests.conftest import CORNER
from tests.sweep.run.test_ending import FINAL, SPEC, study

__all__ = ["study"]


@pytest.fixture
def callback(study: SweepStudy, tmp_path: Path) -> SweepCallback:
    study.ask()
    return SweepCallback(
        SPEC, tmp_path, study, SweepProgress(trials=4, epochs_each=2, corner=CORNER)
    )


def trial_of(directory: Path, number: int, report: dict[str, Any] | None = None) -> Any:
    """A trial as Ray shows it, with its exception as a text file."""
    error = directory / "error.txt"
    error.write_text("Failure # 1 (occurred at noon)\n\nValueError: why\n")
    return SimpleNamespace(
        config={"trial_id": f"t{number:04d}", "overrides": {}},
        last_result=report,
        pickled_error_file=None,
        error_file=str(error),
    )


def sweep_records(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "spool" / "sweep.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_trials_run_train_and_end(callback: SweepCallback, tmp_path: Path) -> None:
    progress = callback.progress
    said: list[str] = []
    progress.announce = said.append
    first, second = trial_of(tmp_path, 0, FINAL), trial_of(tmp_path, 1, {"epoch": 0})
    for trial in (first, second):
        callback.on_trial_start(0, [], trial)
    assert progress.running == {"t0000": 0, "t0001": 0}
    callback.on_trial_result(0, [], first, {"epoch": 0})
    callback.on_trial_result(0, [], first, {"epoch": 1})
    callback.on_trial_result(0, [], first, FINAL)
    assert (progress.running["t0000"], progress.epochs_here) == (2, 2)
    callback.on_trial_complete(0, [], first)
    assert (progress.standing.complete, progress.running) == (1, {"t0001": 0})
    callback.on_trial_error(0, [], second)
    assert (progress.standing.complete, progress.standing.failed) == (1, 1)
    assert progress.standing.errors == ("t0001: ValueError: why",)
    assert progress.running == {}
    assert said == ["1/4 t0000 complete  bpp 0.5", "2/4 t0001 failed"]
    first_record, second_record = sweep_records(tmp_path)
    assert first_record["metrics"]["hypervolume"] == progress.standing.hypervolume > 0
    assert first_record["metrics"]["trials/complete"] == 1
    assert second_record["metrics"]["trials/failed"] == 1
    assert (first_record["step"], second_record["step"]) == (1, 2)
    ends = [
        json.loads((tmp_path / "spool" / f"{name}.jsonl").read_text().splitlines()[-1])
        for name in ("t0000", "t0001")
    ]
    assert [(end["status"], end["error"]) for end in ends] == [
        ("complete", None),
        ("failed", "ValueError: why"),
    ]


def test_a_second_end_of_the_same_trial_changes_nothing(
    callback: SweepCallback, study: SweepStudy, tmp_path: Path
) -> None:
    trial = trial_of(tmp_path, 0, FINAL)
    callback.on_trial_complete(0, [], trial)
    callback.on_trial_error(0, [], trial)
    assert [ended.status for ended in study.ended_trials()] == ["complete"]
    assert len(sweep_records(tmp_path)) == 1


def test_a_trial_without_any_report_is_an_early_stop(
    callback: SweepCallback, study: SweepStudy, tmp_path: Path
) -> None:
    callback.on_trial_complete(0, [], trial_of(tmp_path, 1))
    assert [ended.status for ended in study.ended_trials()] == ["pruned"]
    assert callback.progress.standing.done == 1
