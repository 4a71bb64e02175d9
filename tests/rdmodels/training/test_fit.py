import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from rdmodels import checkpoint
from rdmodels.coding.integer_context import INTEGER_CONTEXT
from rdmodels.config import TrialConfig, make_trial, override
from rdmodels.data.batches import TrainingBatches
from rdmodels.data.splits import Splits
from rdmodels.errors import ConfigError, EvaluationError, NonFiniteLossError
from rdmodels.model.storage import load_codec
from rdmodels.results.trial import EpochRecord
from rdmodels.training import compiled
from rdmodels.training import fit as fit_module
from rdmodels.training.evaluation import Evaluation, evaluate
from rdmodels.training.finish import coding_model, finish
from rdmodels.training.fit import fit
from rdmodels.training.start import make_codec, training_state
from rdmodels.training.statistics import reestimate_batch_norm
from rdmodels.training.step import train_step


def figures(record: EpochRecord) -> dict[str, float]:
    """A record without what depends on the clock."""
    clocked = ("train/images_per_second", "seconds/")
    return {k: v for k, v in record.metrics().items() if not k.startswith(clocked)}


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(directory / checkpoint.MODEL)


def test_training_lowers_the_loss_and_leaves_a_model(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    config = override(small_config, {"epochs": 6, "width": 16, "batch_size": 10})
    records = list(fit(config, digits, tmp_path))
    assert [record.epoch for record in records] == list(range(6))
    # An epoch's evaluation may have failed: the guard is there because that happens.
    losses = {record.epoch: record.val.loss for record in records if record.val}
    assert min(losses.values()) < losses[0]
    result = finish(tmp_path, digits)
    assert result.best_epoch == min(losses, key=losses.__getitem__)
    best = records[result.best_epoch].val
    assert best is not None
    assert result.best.bpp_estimated == pytest.approx(best.bpp_estimated, rel=1e-5)
    assert result.best.loss == pytest.approx(best.loss, rel=1e-5)
    assert result.best.mse == pytest.approx(best.mse, rel=1e-3)
    assert result.epochs == 6


def test_the_same_seed_gives_the_same_figures_and_weights(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    runs = [list(fit(small_config, digits, tmp_path / name)) for name in "ab"]
    assert list(map(figures, runs[0])) == list(map(figures, runs[1]))
    first, second = (weights(tmp_path / name) for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = list(fit(override(small_config, {"seed": 1}), digits, tmp_path / "c"))
    assert figures(other[0]) != figures(runs[0][0])


def test_training_leaves_the_global_random_state_alone(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    before = torch.get_rng_state()
    list(fit(small_config, digits, tmp_path))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"normalisation": "group", "target_bpp": 0.1, "gradient_clip": 0.1},
        {"rate_control": "hinge", "averaging": 0.0, "learning_rate_decay": 0.0},
        {"rate_control": "hinge", "rate_ramp": 0.6, "target_anneal": 0.8},
    ],
)
def test_a_resumed_training_equals_an_unbroken_one(
    values: dict[str, object], small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    config = override(small_config, {"epochs": 3, **values})
    unbroken = list(fit(config, digits, tmp_path / "unbroken"))
    first = list(itertools.islice(fit(config, digits, tmp_path / "broken"), 1))
    rest = list(fit(config, digits, tmp_path / "broken", resume=True))
    assert [record.epoch for record in rest] == [1, 2]
    assert list(map(figures, first + rest)) == list(map(figures, unbroken))
    results = [finish(tmp_path / name, digits) for name in ("unbroken", "broken")]
    assert results[0].test == results[1].test


def test_resuming_another_configuration_is_refused(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    list(itertools.islice(fit(small_config, digits, tmp_path), 1))
    before = (tmp_path / checkpoint.CONFIG).read_text()
    with pytest.raises(ConfigError, match="another configuration"):
        list(fit(override(small_config, {"beta": 0.5}), digits, tmp_path, resume=True))
    assert (tmp_path / checkpoint.CONFIG).read_text() == before


def test_a_resume_may_go_on_uncompiled(
    small_config: TrialConfig, digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "check_compiler", lambda _device: None)
    monkeypatch.setattr(compiled.torch, "compile", lambda function, **_: function)
    next(fit(override(small_config, {"compiled": True}), digits, tmp_path))
    # On a machine without a compiler.
    assert next(fit(small_config, digits, tmp_path, resume=True)).epoch == 1


def test_cudnn_adds_in_a_fixed_order_while_an_epoch_is_trained_and_only_then(
    small_config: TrialConfig, digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudnn, seen = torch.backends.cudnn, []
    monkeypatch.setattr(cudnn, "deterministic", False)
    monkeypatch.setattr(cudnn, "benchmark", True)

    def step(*arguments: Any) -> torch.Tensor:
        seen.append((cudnn.deterministic, cudnn.benchmark))
        if len(seen) > 8:
            raise RuntimeError("broken")
        return train_step(*arguments)

    monkeypatch.setattr(fit_module, "train_step", step)
    training = fit(small_config, digits, tmp_path)
    next(training)
    assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
    with pytest.raises(RuntimeError, match="broken"):
        next(training)
    assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
    assert set(seen) == {(True, False)}


def test_the_target_falls_from_that_of_raw_symbols_to_its_own(
    small_config: TrialConfig, digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets, weights = [], []

    def step(*arguments: Any) -> torch.Tensor:
        weights.append(float(arguments[3]))
        targets.append(float(arguments[4]))
        return train_step(*arguments)

    monkeypatch.setattr(fit_module, "train_step", step)
    config = override(small_config, {"epochs": 2, "h_target": 0.5, "target_anneal": 0.75})
    list(fit(config, digits, tmp_path / "annealed"))
    annealed, falling = targets[:], weights[:]
    steps = len(annealed)
    assert annealed[0] == pytest.approx(math.log2(6))
    expected = math.log2(6) + (0.5 - math.log2(6)) * (steps // 2 / steps) / 0.75
    assert annealed[steps // 2] == pytest.approx(expected)
    assert annealed[math.ceil(0.75 * steps) :] == [0.5] * (steps - math.ceil(0.75 * steps))
    targets.clear(), weights.clear()
    list(fit(override(config, {"target_anneal": 0.0}), digits, tmp_path / "plain"))
    assert targets == [0.5] * steps
    # The controller is told the same target as the loss.
    assert falling[steps // 4] < weights[steps // 4]


def test_new_weights_void_the_converted_context_model(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    list(fit(small_config, digits, tmp_path))
    finish(tmp_path, digits)
    converted = (tmp_path / INTEGER_CONTEXT).read_bytes()
    coding_model(tmp_path, digits.validation)
    assert (tmp_path / INTEGER_CONTEXT).read_bytes() == converted
    longer = override(small_config, {"epochs": 3})
    assert next(fit(longer, digits, tmp_path, resume=True)).epoch == 2
    assert not (tmp_path / INTEGER_CONTEXT).exists()


def test_a_loss_that_is_no_number_ends_the_trial(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    config = override(small_config, {"learning_rate": 1e30})
    with pytest.raises((NonFiniteLossError, EvaluationError), match=r"learning_rate|diverged"):
        list(fit(config, digits, tmp_path))


def test_a_rate_above_raw_coding_is_a_failed_evaluation(
    small_config: TrialConfig, digits: Splits
) -> None:
    codec = make_codec(small_config, digits.train)
    with torch.no_grad():
        codec.context.logits.bias.copy_(torch.tensor([9.0, 0, 0, 0, 0, 0]))
        codec.quantizer.centers.copy_(torch.tensor([50.0, -1, -0.5, 0, 0.5, 1]))
    with pytest.raises(EvaluationError, match="more than the log2"):
        evaluate(codec, digits.validation, small_config)


def test_an_epoch_whose_evaluation_failed_is_no_data_point(
    small_config: TrialConfig, digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = fit_module.evaluate
    calls = itertools.count()

    def failing(*arguments: object, **options: object) -> object:
        if next(calls) in (0, 2):
            raise EvaluationError("above raw coding")
        return honest(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(fit_module, "evaluate", failing)
    records = list(fit(override(small_config, {"epochs": 3}), digits, tmp_path / "a"))
    assert [record.val is None for record in records] == [True, False, True]
    assert not any(key.startswith("val/") for key in records[0].metrics())
    assert finish(tmp_path / "a", digits).best_epoch == 1
    calls = itertools.repeat(0)
    with pytest.raises(EvaluationError, match=r"none of 2 epochs.*the last one: above raw coding"):
        list(fit(small_config, digits, tmp_path / "b"))


def test_evaluation_does_not_depend_on_the_batch_size(
    small_config: TrialConfig, digits: Splits, trained: Path
) -> None:
    codec, config = load_codec(trained)
    one = evaluate(codec, digits.test, override(config, {"batch_size": 1}))
    many = evaluate(codec, digits.test, override(config, {"batch_size": 17}))
    assert one.metrics.bpp_estimated == pytest.approx(many.metrics.bpp_estimated, rel=1e-4)
    assert one.metrics.loss == pytest.approx(many.metrics.loss, rel=1e-4)
    assert one.metrics.mse == pytest.approx(many.metrics.mse, rel=1e-3)
    assert [image.name for image in one.images] == list(digits.test.names)


@pytest.mark.parametrize("values", [{"precision": "bf16"}, {"channels_last": False}])
def test_speed_options_train_to_about_the_same_figures(
    values: dict[str, object], small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    plain = list(fit(small_config, digits, tmp_path / "plain"))
    other = list(fit(override(small_config, values), digits, tmp_path / "other"))
    assert other[-1].val.mse == pytest.approx(plain[-1].val.mse, rel=0.1)
    # To the last digit only if the option has done nothing.
    assert other[-1].val.mse != plain[-1].val.mse


def test_a_model_directory_holds_no_pickles(trained: Path) -> None:
    assert {file.suffix for file in trained.iterdir()} == {".json", ".safetensors", ".parquet"}
    assert checkpoint.read_config(trained).config.width == 8


def test_damaged_models_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is this the directory of a model"):
        load_codec(tmp_path)
    config = (trained / checkpoint.CONFIG).read_text()
    (tmp_path / checkpoint.CONFIG).write_text(config)
    model = (trained / checkpoint.MODEL).read_bytes()
    for damaged in (b"", model[: len(model) // 2], b"PK" + model[2:]):
        (tmp_path / checkpoint.MODEL).write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"model\.safetensors is not a file"):
            load_codec(tmp_path)
    (tmp_path / checkpoint.MODEL).write_bytes(model)
    (tmp_path / checkpoint.CONFIG).write_text(config.replace('"width": 8', '"width": 16'))
    with pytest.raises(ConfigError, match="does not fit its configuration"):
        load_codec(tmp_path)


def test_ms_ssim_trains_on_large_images(tmp_path: Path) -> None:
    from rdmodels.data.splits import load_splits
    from tests.conftest import write_photo

    for index in range(4):
        write_photo(tmp_path / "photos" / f"{index}.png", 176, 184, seed=index)
    config = make_trial(
        {
            "dataset": f"folder:{tmp_path / 'photos'}",
            "distortion": "ms_ssim",
            "crop_size": 168,
            "width": 8,
            "groups": 1,
            "num_latent_channels": 2,
            "context_features": 4,
            "epochs": 1,
            "batch_size": 2,
        }
    )
    splits = load_splits(config)
    (record,) = fit(config, splits, tmp_path / "model")
    assert record.val.ms_ssim is not None
    assert dataclasses.asdict(finish(tmp_path / "model", splits).test)["ms_ssim"] is not None


def test_the_best_epoch_is_the_one_of_least_validation_loss(
    small_config: TrialConfig, digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = fit_module.evaluate
    losses = iter([0.3, 0.1, 0.1, 0.2])

    def scripted(*arguments: object, **options: object) -> Evaluation:
        found = honest(*arguments, **options)  # type: ignore[arg-type]
        means = dataclasses.replace(found.metrics, loss=next(losses))
        return found._replace(metrics=means)

    monkeypatch.setattr(fit_module, "evaluate", scripted)
    states = []
    hinge = override(small_config, {"epochs": 4, "rate_control": "hinge"})
    for _ in fit(hinge, digits, tmp_path):
        states.append(weights(tmp_path))
    first, best, later, last = (state["encoder.0.weight"] for state in states)
    assert not torch.equal(first, best)
    assert torch.equal(best, later)
    assert torch.equal(best, last)
    assert finish(tmp_path, digits).best_epoch == 1


@pytest.mark.parametrize(
    ("control", "ratios", "best"),
    [
        # Losses are 0.2, 0.3, 0.1, 0.4 throughout.
        ("controller", [1.2, 1.03, 1.03, 1.0], 3),
        ("controller", [1.2, 1.01, 1.03, 0.985], 3),
        ("controller", [1.2, 1.03, 0.985, 1.0], 2),
        ("controller", [1.2, 1.03, 0.97, 0.9], 2),
        # Met by chance, long before the training had learned anything.
        ("controller", [1.0, 0.9, 0.8, 0.9], 2),
        ("hinge", [1.2, 1.03, 1.03, 1.0], 2),
    ],
)
def test_a_met_target_outweighs_the_least_loss_unless_that_comes_later(
    control: str,
    ratios: list[float],
    best: int,
    small_config: TrialConfig,
    digits: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = fit_module.evaluate
    figures_ = zip([0.2, 0.3, 0.1, 0.4], ratios, strict=True)

    def scripted(*arguments: object, **options: object) -> Evaluation:
        found = honest(*arguments, **options)  # type: ignore[arg-type]
        loss, ratio = next(figures_)
        means = dataclasses.replace(found.metrics, loss=loss, rate_over_target=ratio)
        return found._replace(metrics=means)

    monkeypatch.setattr(fit_module, "evaluate", scripted)
    config = override(small_config, {"epochs": 4, "rate_control": control, "train_images": 60})
    list(itertools.islice(fit(config, digits, tmp_path), 2))
    # What was the best so far is known to whoever resumes.
    list(fit(config, digits, tmp_path, resume=True))
    assert training_state(tmp_path).best_epoch == best


def test_statistics_are_re_estimated_before_every_evaluation(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    list(fit(override(small_config, {"epochs": 1}), digits, tmp_path))
    codec, config = load_codec(tmp_path)
    kept = codec.encoder[1].running_mean.clone()
    batches = TrainingBatches(digits.train, config, torch.device("cpu"))
    reestimate_batch_norm(codec, batches, 0)
    assert torch.allclose(codec.encoder[1].running_mean, kept, atol=1e-6)


def test_what_the_decoder_sees_after_the_trim_is_estimated_anew(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    list(fit(override(small_config, {"epochs": 1, "h_target": 0.6}), digits, tmp_path))
    state = checkpoint.load(tmp_path / checkpoint.CHECKPOINT).tensors
    codec, config = load_codec(tmp_path)
    # The trim had to shift, or nothing is shown.
    assert (codec.encoder[-1].bias[0] - state["average.encoder.7.bias"][0]).abs() > 0.1
    kept = codec.decoder[1].running_mean.clone()
    reestimate_batch_norm(codec, TrainingBatches(digits.train, config, torch.device("cpu")), 0)
    assert torch.allclose(codec.decoder[1].running_mean, kept, atol=1e-6)
    assert not torch.allclose(state["average.decoder.1.running_mean"], kept, atol=1e-3)


def test_a_resume_that_would_train_nothing_more_is_refused(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    config = override(small_config, {"epochs": 4})
    list(itertools.islice(fit(config, digits, tmp_path), 3))
    for epochs in (1, 3):
        fewer = override(config, {"epochs": epochs})
        words = f"epochs is {epochs}, but .*trained for 3 of 4: give more than 3"
        with pytest.raises(ConfigError, match=words):
            list(fit(fewer, digits, tmp_path, resume=True))
    assert checkpoint.read_config(tmp_path).config == config
    assert len(list(fit(config, digits, tmp_path, resume=True))) == 1
    # All is done: nothing is left to train, and nothing wrong with asking.
    assert list(fit(config, digits, tmp_path, resume=True)) == []


def test_resuming_on_changed_images_is_refused(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    list(itertools.islice(fit(small_config, digits, tmp_path), 1))
    changed = digits._replace(train=dataclasses.replace(digits.train, sha256="0" * 64))
    with pytest.raises(ConfigError, match=r"images of digits have changed.*train"):
        list(fit(small_config, changed, tmp_path, resume=True))
    assert checkpoint.read_config(tmp_path).data == digits.fingerprint
