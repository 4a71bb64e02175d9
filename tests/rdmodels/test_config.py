import pytest

from rdmodels.config import make_trial, override
from rdmodels.errors import ConfigError


def test_defaults_are_valid_and_are_the_papers_architecture() -> None:
    config = make_trial({})
    assert (config.width, config.groups, config.num_centers) == (128, 5, 6)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"widht": 32}, ["trial.widht", "32", "did you mean width?"]),
        ({"epochs": "many"}, ["trial.epochs", "'many'", "integer"]),
        ({"beta": -1}, ["trial.beta", "-1", "greater than 0"]),
        ({"beta": float("nan")}, ["trial.beta", "finite"]),
        ({"h_target": 2.7}, ["h_target", "2.585", "2.7", "log2"]),
        ({"dataset": "imagenet"}, ["trial.dataset", "imagenet", "digits", "folder:PATH"]),
        ({"dataset": "folder:"}, ["trial.dataset", "needs a path"]),
        ({"distortion": "l1"}, ["trial.distortion", "'l1'", "ms_ssim"]),
        ({"crop_size": 100}, ["trial.crop_size", "100", "multiple of 8"]),
        ({"num_latent_channels": 8.5}, ["trial.num_latent_channels", "8.5"]),
    ],
)
def test_a_bad_value_is_named_with_its_field_and_the_way_out(
    values: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        make_trial(values, where="trial")
    for word in words:
        assert word in str(error.value)


def test_a_number_that_yaml_reads_as_text_is_taken() -> None:
    assert make_trial({"learning_rate": "1e-4"}).learning_rate == 1e-4


def test_an_override_is_validated_as_a_whole() -> None:
    config = make_trial({"h_target": 2.5})
    with pytest.raises(ConfigError, match="h_target must be at most"):
        override(config, {"num_centers": 4})
    assert override(config, {"beta": 0.5}).beta == 0.5
