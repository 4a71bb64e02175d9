import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from rdmodels.config import override
from rdmodels.errors import ConfigError
from sweep.search.searcher import OptunaSearcher
from sweep.search.study import SweepStudy
from sweep.spec.overrides import apply_overrides
from sweep.spec.spec import SweepSpec, make_spec
from tests.sweep.spec.test_spec import BASE

# Optuna calls its own defaults experimental.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

GRID = ("search={sampler: grid}", "space.beta.points=3", "space.h_target=[0.5, 1.0]")
SAMPLERS = {
    name: (f"search={{sampler: {name}, trials: 12}}",) for name in ("tpe", "nsga2", "gp", "random")
} | {"grid": GRID}


def spec_with(*overrides: str) -> SweepSpec:
    return make_spec(apply_overrides(BASE, overrides))


def measure(overrides: dict[str, Any]) -> tuple[float, float]:
    """A smooth stand-in for a trial: rate against distortion."""
    bpp = overrides["h_target"] * overrides["num_latent_channels"] / 64
    return bpp, math.exp(-3 * bpp) * (1 + overrides["beta"])


def proposals(directory: Path, spec: SweepSpec) -> list[dict[str, Any]]:
    directory.mkdir(exist_ok=True)
    study = SweepStudy(directory, "x", spec)
    out = []
    while (proposal := study.ask()) is not None:
        out.append(proposal.overrides)
        study.complete(proposal.trial_id, *measure(proposal.overrides))
    return out


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_proposes_valid_trials_and_the_seed_decides(
    sampler: str, tmp_path: Path
) -> None:
    spec = spec_with(*SAMPLERS[sampler])
    first = proposals(tmp_path / "a", spec)
    assert len(first) == 12
    for overrides in first:
        assert set(overrides) == set(spec.space)
        override(spec.base, overrides)
    assert proposals(tmp_path / "b", spec) == first
    if sampler != "grid":
        other = spec_with(*SAMPLERS[sampler], "search.seed=1")
        assert proposals(tmp_path / "c", other) != first


def test_a_grid_takes_every_point_once(tmp_path: Path) -> None:
    spec = spec_with(*GRID)
    taken = proposals(tmp_path, spec)
    assert sorted(map(str, taken)) == sorted(map(str, spec.grid()))


def searcher(tmp_path: Path) -> tuple[OptunaSearcher, SweepStudy, list[tuple[str, str]]]:
    study = SweepStudy(tmp_path, "x", spec_with())
    ends: list[tuple[str, str]] = []
    found = OptunaSearcher(study, lambda trial_id, status, result: ends.append((trial_id, status)))
    return found, study, ends


@pytest.mark.parametrize(
    ("result", "error", "state", "status"),
    [
        ({"final": True, "bpp": 0.5, "distortion": 0.01}, False, TrialState.COMPLETE, "complete"),
        ({"bpp": 0.5, "epoch": 1}, False, TrialState.PRUNED, "pruned"),
        ({"final": True, "bpp": math.nan, "distortion": 0.01}, False, TrialState.FAIL, "failed"),
        ({"final": True, "bpp": 1.0, "distortion": math.inf}, False, TrialState.FAIL, "failed"),
        ({"bpp": 0.5}, True, TrialState.FAIL, "failed"),
        (None, True, TrialState.FAIL, "failed"),
    ],
)
def test_how_a_trial_ends_in_the_study(
    result: dict[str, Any] | None, error: bool, state: TrialState, status: str, tmp_path: Path
) -> None:
    ray, study, ends = searcher(tmp_path)
    proposal = ray.suggest("ray-1")
    assert isinstance(proposal, dict)
    assert study.open_trials() == ["t0000"]
    ray.on_trial_complete("ray-1", result, error=error)
    (trial,) = study.trials()
    assert trial.state is state
    assert trial.user_attrs["trial_id"] == proposal["trial_id"] == "t0000"
    assert trial.values == ([0.5, 0.01] if state is TrialState.COMPLETE else None)
    if state is TrialState.PRUNED:
        assert trial.user_attrs["partial"] == {"bpp": 0.5, "epoch": 1}
    assert ends == [("t0000", status)]
    assert study.open_trials() == []
    ray.on_trial_complete("ray-1", result, error=error)
    assert len(ends) == 1


def test_the_searcher_stops_proposing_at_the_limit(tmp_path: Path) -> None:
    ray, _, _ = searcher(tmp_path)
    proposed = [ray.suggest(f"ray-{index}") for index in range(5)]
    assert all(isinstance(proposal, dict) for proposal in proposed[:4])
    assert proposed[4] == OptunaSearcher.FINISHED


def test_a_study_of_another_space_or_other_objectives_is_refused(tmp_path: Path) -> None:
    SweepStudy(tmp_path, "x", spec_with())
    SweepStudy(tmp_path, "x", spec_with("search.trials=9"))
    with pytest.raises(ConfigError, match="another space"):
        SweepStudy(tmp_path, "x", spec_with("space.beta.high=0.2"))
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    storage = optuna.storages.JournalStorage(backend)
    optuna.create_study(study_name="y", storage=storage, directions=["minimize", "maximize"])
    with pytest.raises(ConfigError, match="objectives"):
        SweepStudy(tmp_path, "y", spec_with())


def test_reopening_goes_on_with_new_points(tmp_path: Path) -> None:
    spec = spec_with("search.trials=6", "search.sampler=random")
    study = SweepStudy(tmp_path, "x", spec)
    first = [study.ask() for _ in range(3)]
    again = SweepStudy(tmp_path, "x", spec)
    second = [again.ask() for _ in range(3)]
    points = [str(proposal.overrides) for proposal in first + second if proposal]
    assert len(set(points)) == 6
    assert again.ask() is None
