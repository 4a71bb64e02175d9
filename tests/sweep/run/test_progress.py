import itertools
import time
from pathlib import Path

import pytest

from analysis.frontier import hypervolume
from sweep.run.progress import Point, Standing, SweepProgress, standing_of
from sweep.search.study import EndedTrial, SweepStudy
from tests.conftest import CORNER
from tests.sweep.search.test_search import spec_with

SPEC = spec_with("search={sampler: random, trials: 7}")


def sweep_under_way(directory: Path) -> SweepStudy:
    """Two complete, one complete without a quality, and one of every other kind."""
    study = SweepStudy(directory, "x", SPEC)
    for _ in range(7):
        study.ask()
    study.complete("t0000", 0.5, 0.01, 20.0)
    study.complete("t0001", 0.6, 0.02, 19.0, "the rate went to zero")
    study.complete("t0002", 0.7, 0.0, None)
    study.prune("t0003", {})
    study.fail("t0004", "ValueError: why")
    study.stop("t0005", "the sweep was stopped")
    return study


def test_how_far_a_sweep_is_comes_from_its_study_alone(tmp_path: Path) -> None:
    study = sweep_under_way(tmp_path)
    standing = standing_of(study.ended_trials(), CORNER)
    assert (standing.complete, standing.pruned) == (3, 1)
    assert (standing.failed, standing.stopped, standing.done) == (1, 1, 5)
    assert standing.points == (Point("t0000", 0.5, 20.0), Point("t0001", 0.6, 19.0))
    assert standing.hypervolume == hypervolume([(0.5, 20.0), (0.6, 19.0)], CORNER) > 0
    assert standing.collapsed == ("t0001: the rate went to zero",)
    assert standing.errors == ("t0004: ValueError: why",)
    again = SweepStudy(tmp_path, "x", SPEC)
    assert standing_of(again.ended_trials(), CORNER) == standing
    # What ends later is seen by both, and by the order in which trials were proposed.
    again.complete("t0006", 0.4, 0.03, 18.0)
    for each in (study, again):
        later = standing_of(each.ended_trials(), CORNER)
        assert [point.trial_id for point in later.points] == ["t0000", "t0001", "t0006"]
        assert later.complete == 4


def test_a_sweep_that_has_not_begun_stands_at_nothing(tmp_path: Path) -> None:
    study = SweepStudy(tmp_path, "x", SPEC)
    study.ask()
    assert standing_of(study.ended_trials(), CORNER) == Standing()
    assert Standing().front() == []


def test_the_frontier_so_far_is_the_same_for_any_order() -> None:
    points = [Point("a", 1.0, 30.0), Point("b", 0.5, 25.0), Point("c", 0.7, 24.0)]
    points.append(Point("d", 0.5, 24.0))
    for order in itertools.permutations(points):
        front = Standing(points=order).front()
        assert [point.trial_id for point in front] == ["b", "a"]


def test_three_thousand_trials_are_counted_in_no_time() -> None:
    ended = [
        EndedTrial(f"t{i:04d}", {"beta": 0.1}, "complete", 0.1 + i % 97 / 50, 10 + i % 89 / 4)
        for i in range(3000)
    ]
    seconds = []
    for _ in range(5):
        started = time.process_time()
        assert standing_of(ended, CORNER).complete == 3000
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.1


def test_time_left_is_that_of_the_epochs_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = SweepProgress(trials=5, epochs_each=10, corner=CORNER, started=100.0)
    assert (progress.epochs_left, progress.seconds_left) == (50, None)
    progress.standing = Standing(complete=1, failed=1)
    progress.running["t0002"] = 0
    progress.epoch("t0002", 1)
    progress.epoch("t0002", 2)
    progress.epoch("t0003", 6)
    # A failed trial's missing epochs will not be trained; two trials are done, 8 epochs under way.
    assert progress.epochs_left == 30 - 8
    monkeypatch.setattr(time, "monotonic", lambda: 130.0)
    assert progress.seconds_left == pytest.approx(30 / 3 * 22)
    progress.standing = Standing(complete=5)
    assert progress.epochs_left == 0


def test_every_kind_of_end_is_counted_as_its_own() -> None:
    statuses = ["complete"] * 4 + ["pruned"] * 3 + ["failed"] * 2 + ["stopped"]
    ended = [EndedTrial(f"t{i:04d}", {}, status) for i, status in enumerate(statuses)]  # type: ignore[arg-type]
    standing = standing_of(ended, CORNER)
    assert (standing.complete, standing.pruned, standing.failed, standing.stopped) == (4, 3, 2, 1)
