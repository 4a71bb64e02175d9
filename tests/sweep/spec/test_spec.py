import math
from pathlib import Path
from typing import Any

import pytest

from rdmodels.errors import ConfigError
from sweep.spec.overrides import apply_overrides, read_yaml
from sweep.spec.space import Range, corners, distributions
from sweep.spec.spec import SweepSpec, make_spec

CONFIGS = Path(__file__).parents[3] / "configs"
BASE: dict[str, Any] = {
    "name": "x",
    "trial": {"width": 8, "groups": 1},
    "space": {
        "beta": {"low": 0.001, "high": 0.1, "log": True},
        "num_latent_channels": [8, 16],
        "h_target": {"low": 0.1, "high": 2.0, "log": True},
    },
    "search": {"sampler": "tpe", "trials": 4},
}


def spec_with(*overrides: str) -> SweepSpec:
    return make_spec(apply_overrides(BASE, overrides))


def read_spec(file: Path) -> SweepSpec:
    return make_spec(read_yaml(file))


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_configurations_are_valid(file: Path) -> None:
    assert read_spec(file).num_trials >= 12


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("spcae={}", ["spcae", "did you mean space?"]),
        ("name=a/b", ["name", "a/b", "letters"]),
        ("space.btea=[1]", ["space.btea", "did you mean beta?"]),
        ("space.beta.low=10", ["space.beta", "low must be less than high", "10", "0.1"]),
        ("space.beta.low=0.1", ["space.beta", "low must be less than high"]),
        ("space.beta.low=0", ["space.beta", "log range", "above 0"]),
        ("space.beta.lo=0", ["space.beta.lo", "did you mean low?"]),
        ("space.beta.step=0.1", ["space.beta", "log range takes no step"]),
        ("space.beta=[]", ["space.beta", "must not be empty"]),
        ("space.beta=[0.1, 0.1]", ["space.beta", "differ"]),
        ("space.beta=[0.1, -1]", ["space.beta", "-1", "greater than 0"]),
        ("space.beta=0.5", ["space.beta", "0.5", "belongs in trial"]),
        ("space.h_target.high=3", ["space.h_target", "3", "2.585"]),
        ("space.num_latent_channels={low: 1.5, high: 4}", ["whole numbers", "1.5"]),
        ("space={}", ["space", "at least one field"]),
        ("space.color=[grey, rgb]", ["space.color", "same in all trials"]),
        ("space.train_images=[100, 200]", ["space.train_images", "same in all trials"]),
        ("space.importance_map={low: 0, high: 1}", ["space.importance_map", "list of choices"]),
        ("space.crop_size={low: 64, high: 100}", ["space.crop_size", "65", "multiple of 8"]),
        ("trial.width=9", ["trial.width", "multiple of 4", "9"]),
        ("trial.beta=1", ["beta", "trial", "space", "leave it in one"]),
        ("search.sampler=cmaes", ["search.sampler", "'cmaes'", "nsga2"]),
        ("search.trials=0", ["search.trials", "0"]),
        ("search={sampler: tpe}", ["search", "trials must be given"]),
        ("search={sampler: gp, trials: 500}", ["gp", "200", "500", "use tpe"]),
        ("search.sampler=grid", ["space.beta", "points: N"]),
        ("search.time_budget_s=-1", ["search.time_budget_s", "-1"]),
        ("resources={gpu: 1.5}", ["resources.gpu", "1.5", "fraction"]),
        ("resources={concurrent: 0}", ["resources.concurrent", "0"]),
        ("trial.width.x=3", ["trial.width.x", "no fields"]),
        ("beta", ["path.to.field=value", "'beta'"]),
    ],
)
def test_bad_input_is_named_with_its_value_and_the_way_out(
    override: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        spec_with(override)
    for word in words:
        assert word in str(error.value)


def test_files_that_are_no_sweep_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_spec(file)
    file.write_text("space: [1, 2")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_spec(file)
    file.write_text("- 1")
    with pytest.raises(ConfigError, match="mapping"):
        read_spec(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"cannot be read|not valid YAML"):
        read_spec(file)


def test_overrides_reach_every_depth_and_read_yaml_values() -> None:
    spec = spec_with("space.beta.low=0.01", "trial.epochs=2", "search.seed=7")
    beta = spec.space["beta"]
    assert isinstance(beta, Range)
    assert (beta.low, spec.base.epochs, spec.search.seed) == (0.01, 2, 7)
    assert BASE["space"]["beta"]["low"] == 0.001


def test_null_moves_a_field_from_trial_to_space() -> None:
    spec = spec_with("trial.width=null", "space.width={low: 8, high: 16, step: 4}")
    assert {config.width for config in spec.extremes()} == {8, 16}


def test_extremes_are_all_corners_of_the_space() -> None:
    spec = spec_with("space.num_latent_channels=[16, 8, 12]")
    found = {(c.beta, c.num_latent_channels, c.h_target) for c in spec.extremes()}
    assert len(found) == 8
    assert {c for _, c, _ in found} == {8, 16}
    assert len(list(corners(spec.space))) == 8


def test_integer_fields_are_searched_as_integers() -> None:
    spec = spec_with("space.num_latent_channels={low: 4, high: 16, step: 4}")
    distribution = distributions(spec.space)["num_latent_channels"]
    assert (distribution.low, distribution.high, distribution.step) == (4, 16, 4)  # type: ignore[attr-defined]


def test_a_grid_is_every_combination() -> None:
    spec = spec_with(
        "search={sampler: grid}",
        "space.beta.points=3",
        "space.h_target={low: 1, high: 2, step: 0.5}",
    )
    assert spec.num_trials == 3 * 2 * 3 == len(spec.grid())
    betas = sorted({point["beta"] for point in spec.grid()})
    assert all(math.isclose(a, b) for a, b in zip(betas, [0.001, 0.01, 0.1], strict=True))
    assert {point["h_target"] for point in spec.grid()} == {1.0, 1.5, 2.0}
