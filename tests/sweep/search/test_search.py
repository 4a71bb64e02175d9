import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from rdmodels.config import override
from rdmodels.errors import ConfigError
from sweep.search.searcher import OptunaSearcher
from sweep.search.study import EndedTrial, SweepStudy
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
        study.complete(proposal.trial_id, *measure(proposal.overrides), 30.0)
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


@pytest.mark.parametrize(
    ("bpp", "distortion", "state"),
    [
        (0.5, 0.01, TrialState.COMPLETE),
        (math.nan, 0.01, TrialState.FAIL),
        (1.0, math.inf, TrialState.FAIL),
    ],
)
def test_a_trial_is_complete_only_with_finite_objectives(
    bpp: float, distortion: float, state: TrialState, tmp_path: Path
) -> None:
    study = SweepStudy(tmp_path, "x", spec_with())
    proposal = study.ask()
    assert proposal is not None
    assert study.open_trials() == ["t0000"]
    study.complete("t0000", bpp, distortion, 31.5)
    (trial,) = study.trials()
    (ended,) = study.ended_trials()
    assert trial.state is state
    assert trial.user_attrs["trial_id"] == proposal.trial_id == ended.trial_id == "t0000"
    assert study.open_trials() == []
    if state is TrialState.COMPLETE:
        assert trial.values == [0.5, 0.01]
        assert ended == EndedTrial("t0000", proposal.overrides, "complete", 0.5, 31.5)
    else:
        assert trial.values is None
        assert (ended.status, ended.bpp, ended.quality) == ("failed", None, None)
        assert ended.reason is not None
        assert "not finite" in ended.reason


def test_a_quality_that_is_infinite_is_none(tmp_path: Path) -> None:
    study = SweepStudy(tmp_path, "x", spec_with())
    for quality in (math.inf, None):
        proposal = study.ask()
        assert proposal is not None
        study.complete(proposal.trial_id, 0.5, 0.0, quality)
    assert [trial.quality for trial in study.ended_trials()] == [None, None]
    assert [trial.status for trial in study.ended_trials()] == ["complete", "complete"]


def test_how_trials_ended_is_known_to_whoever_opens_the_study_again(tmp_path: Path) -> None:
    spec = spec_with("search.trials=6")
    study = SweepStudy(tmp_path, "x", spec)
    for _ in range(6):
        study.ask()
    study.complete("t0000", 0.5, 0.01, 20.0)
    study.prune("t0001", {"bpp": 0.7, "epoch": 1})
    study.fail("t0002", "out of memory")
    # Whoever opens it again ends what another process has proposed.
    again = SweepStudy(tmp_path, "x", spec)
    assert again.open_trials() == ["t0003", "t0004", "t0005"]
    again.stop("t0003", "the sweep was stopped")
    again.complete("t0004", 0.6, 0.02, 19.0)
    ended = SweepStudy(tmp_path, "x", spec).ended_trials()
    assert [(t.trial_id, t.status, t.bpp, t.quality, t.reason) for t in ended] == [
        ("t0000", "complete", 0.5, 20.0, None),
        ("t0001", "pruned", None, None, None),
        ("t0002", "failed", None, None, "out of memory"),
        ("t0003", "stopped", None, None, "the sweep was stopped"),
        ("t0004", "complete", 0.6, 19.0, None),
    ]
    assert study.trials()[1].user_attrs["partial"] == {"bpp": 0.7, "epoch": 1}
    assert all(set(trial.overrides) == set(spec.space) for trial in ended)


def test_the_searcher_stops_proposing_at_the_limit(tmp_path: Path) -> None:
    ray = OptunaSearcher(SweepStudy(tmp_path, "x", spec_with()))
    proposed = [ray.suggest(f"ray-{index}") for index in range(5)]
    ids = [proposal["trial_id"] for proposal in proposed[:4] if isinstance(proposal, dict)]
    assert ids == ["t0000", "t0001", "t0002", "t0003"]
    assert proposed[4] == OptunaSearcher.FINISHED


@pytest.mark.parametrize(
    "content", [b"no journal\n", b'{"a": 1}\n', b"[]\n", b'{"op_code": 0, "worker_id": "x"}\n']
)
def test_a_damaged_study_is_an_expected_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "study.journal").write_bytes(content)
    with pytest.raises(ConfigError, match=r"study.journal is not a study.*new --output"):
        SweepStudy(tmp_path, "x", spec_with())


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
