"""What a training starts from: the optimiser's terms, and the files it can go on from."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from rdmodels import checkpoint
from rdmodels.config import TrialConfig, override
from rdmodels.data.splits import Splits
from rdmodels.errors import ConfigError
from rdmodels.results.trial import Seconds
from rdmodels.training.fit import fit
from rdmodels.training.start import TrainingState, make_codec, make_optimiser, training_state


def rates_and_decays(config: TrialConfig, digits: Splits) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter, by name."""
    codec = make_codec(config, digits.train)
    names = {id(parameter): name for name, parameter in codec.named_parameters()}
    found = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in make_optimiser(codec, config).param_groups
        for parameter in group["params"]
    }
    assert set(found) == set(names.values())
    return found


@pytest.mark.parametrize(("distortion", "scale"), [("mse", 255.0**2), ("ms_ssim", 5000.0)])
def test_every_parameter_has_its_rate_and_its_decay(
    distortion: str, scale: float, small_config: TrialConfig, digits: Splits
) -> None:
    values = {"distortion": distortion, "learning_rate": 0.01, "context_learning_rate": 0.02}
    config = override(small_config, {**values, "weight_decay": 0.3, "centers_decay": 0.7})
    codec = make_codec(config, digits.train)
    convolutions = {
        f"{name}.weight"
        for name, module in codec.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    }
    for name, (rate, decay) in rates_and_decays(config, digits).items():
        assert rate == (0.02 if name.startswith("context.") else 0.01), name
        if name in convolutions:
            assert decay == pytest.approx(0.3 / scale), name
        elif name == "quantizer.centers":
            assert decay == pytest.approx(0.7 / scale)
        else:
            assert decay == 0, name


def test_weights_come_from_the_seed_alone(small_config: TrialConfig, digits: Splits) -> None:
    def first(seed: int) -> torch.Tensor:
        return make_codec(override(small_config, {"seed": seed}), digits.train).encoder[0].weight

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_a_training_stands_where_its_checkpoint_says(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    list(itertools.islice(fit(small_config, digits, tmp_path), 1))
    state = training_state(tmp_path)
    assert (state.epochs, state.best_epoch) == (1, 0)
    assert (state.steps, state.seconds.training > 0) == (6, True)
    spent = Seconds(training=2.0)
    later = TrainingState().after(0, 7, None, spent, missed=False)
    assert later == TrainingState(epochs=1, steps=7, seconds=spent)


def test_files_of_another_version_are_refused_in_one_line(trained: Path, tmp_path: Path) -> None:
    values = json.loads((trained / checkpoint.CONFIG).read_text())
    (tmp_path / checkpoint.CONFIG).write_text(json.dumps({**values, "version": 7}))
    with pytest.raises(ConfigError, match=r"config\.json has version 7, this program reads 2"):
        checkpoint.read_config(tmp_path)
    # The first version was the bare configuration.
    (tmp_path / checkpoint.CONFIG).write_text(json.dumps(values["trial"]))
    with pytest.raises(ConfigError, match=r"config\.json has version 1, .* train the model again"):
        checkpoint.read_config(tmp_path)
    for text, words in (("[]", "version 1"), ("{", "not valid JSON")):
        (tmp_path / checkpoint.CONFIG).write_text(text)
        with pytest.raises(ConfigError, match=words):
            checkpoint.read_config(tmp_path)
    from safetensors.torch import save_file

    path = tmp_path / checkpoint.MODEL
    save_file({"x": torch.zeros(1)}, path, metadata={"rdsweep": "{}"})
    with pytest.raises(ConfigError, match=r"model\.safetensors has version 1"):
        checkpoint.load(path)
