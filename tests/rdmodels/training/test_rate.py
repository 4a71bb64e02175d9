"""Rate control: its pure steps, the target in written bytes, and the trim at the end."""

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rdmodels import checkpoint
from rdmodels.coding.bitstream import compress, compress_batch
from rdmodels.coding.coding_model import CodingModel, load_coding_model
from rdmodels.coding.container import read_header
from rdmodels.config import TrialConfig, make_trial, override
from rdmodels.data.images import ImageSet
from rdmodels.data.splits import Splits
from rdmodels.errors import ConfigError
from rdmodels.model.storage import load_codec
from rdmodels.results.images import VALIDATION_IMAGES, read_images
from rdmodels.training import fit as fit_module
from rdmodels.training import trim
from rdmodels.training.coded import coding_model_of, evaluate_coded
from rdmodels.training.evaluation import Evaluation, evaluate
from rdmodels.training.finish import finish
from rdmodels.training.fit import fit
from rdmodels.training.rate import after_step, after_validation, gain_of, start_rate
from rdmodels.training.start import start_training
from rdmodels.training.target import check_target, rate_scale, target_bits_per_symbol
from rdmodels.training.trim import trim_rate
from tests.conftest import write_photo

CPU = torch.device("cpu")
BETA = 0.0003


def test_the_weight_rises_above_the_target_and_falls_below_it() -> None:
    target = torch.tensor(0.5)
    # A quarter off is as much as any; a large weight moves by factors.
    rates = ((5.0, 1.0), (0.625, 1.0), (0.5625, 0.5), (0.5, 0.0), (0.45, -0.4), (0.25, -1.0))
    for rate, factor in rates:
        after = after_step(start_rate(0.1, CPU), torch.tensor(rate), target, 0.02, BETA)
        assert after.weight.item() == pytest.approx(0.1 * math.exp(0.02 * factor), rel=1e-5), rate
        # One near zero by amounts.
        after = after_step(start_rate(0.0, CPU), torch.tensor(rate), target, 0.02, BETA)
        assert after.weight.item() == pytest.approx(0.02 * factor * BETA, rel=1e-3), rate


def test_bits_are_rewarded_where_they_are_wanted_and_within_bounds() -> None:
    state = start_rate(0.003, CPU)
    target = torch.tensor(1.0)
    weights = []
    for _ in range(400):
        state = after_step(state, torch.tensor(0.5), target, 0.05, BETA)
        weights.append(state.weight.item())
    assert weights == sorted(weights, reverse=True)
    lowest = -BETA * math.sinh(2.0)
    assert weights[0] > 0 > weights[-1] == pytest.approx(lowest)
    # Out of there as soon as the rate is above its target.
    state = after_step(state, torch.tensor(2.0), target, 0.05, BETA)
    assert state.weight.item() == pytest.approx(-BETA * math.sinh(2.0 - 0.05))


def test_the_running_rate_forgets_slowly_and_starts_at_the_first_batch() -> None:
    state = start_rate(0.01, CPU)
    target = torch.tensor(1.0)
    state = after_step(state, torch.tensor(2.0), target, 0.02, BETA)
    assert state.running.item() == 2.0
    state = after_step(state, torch.tensor(1.0), target, 0.02, BETA)
    assert state.running.item() == pytest.approx(2.0 - 0.05)


def test_what_validation_finds_moves_the_target_of_the_steps() -> None:
    target = torch.tensor(1.0)
    state = start_rate(0.01, CPU)._replace(running=torch.tensor(1.0))
    # The averaged weights code 10 % more cheaply: the steps may take 10 % more.
    for _ in range(20):
        state = after_validation(state, 0.9)
    assert state.ratio.item() == pytest.approx(0.9)
    after = after_step(state, torch.tensor(1 / 0.9), target, 0.02, BETA)
    assert after.weight.item() == pytest.approx(0.01)
    assert after_validation(state, 1e-6).ratio.item() > 0.5
    assert after_validation(state, 1e6).ratio.item() < 2.0


def test_the_control_settles_whatever_the_length_of_the_training() -> None:
    """On a plant whose rate answers to the weight with a delay, as a training's does."""
    for steps in (150, 600, 5000):
        state, rate = start_rate(0.0, CPU), 1.5
        for _ in range(steps):
            found = torch.tensor(rate)
            state = after_step(state, found, torch.tensor(0.3), gain_of(steps), BETA)
            wanted = 0.3 * (0.03 / max(state.weight.item(), 1e-3)) ** 0.5
            rate += (wanted - rate) / (steps / 20)
        assert rate == pytest.approx(0.3, rel=0.05), steps
    assert gain_of(10) == gain_of(20)


def test_a_target_in_bpp_is_what_the_streams_take(trained: Path, digits: Splits) -> None:
    """Bits per symbol, headers and filling up: undone, they give the bytes that were written."""
    model = load_coding_model(trained)
    small = digits.test.take(range(7))
    odd = ImageSet(small.images[:, :, :29, :27], small.names)  # type: ignore[call-overload]
    # Above 64x64 each image has a stream of its own.
    large = ImageSet(np.tile(small.images, (1, 1, 3, 3)), small.names)
    for images, alone in ((small, False), (odd, False), (large, True)):
        stacked = images.stacked
        assert stacked is not None
        streams = [compress(model, each) for each in stacked] if alone else []
        streams = streams or [compress_batch(model, stacked)]
        pixels = stacked[:, 0].size
        written = 8 * sum(map(len, streams)) / pixels
        headers = 8 * sum(read_header(stream).header_bytes for stream in streams) / pixels
        config = override(model.config, {"h_target": None, "target_bpp": written})
        scale = rate_scale(config, images)
        assert scale.header_bpp == pytest.approx(headers, rel=0.01)
        symbols = len(stacked) * 4 * (16 if not alone else 144)
        assert scale.symbols_per_pixel == pytest.approx(symbols / pixels)
        payload = 8 * sum(read_header(stream).payload_bytes for stream in streams)
        assert target_bits_per_symbol(config, images) == pytest.approx(payload / symbols)


def test_a_target_that_cannot_be_met_says_what_can(digits: Splits) -> None:
    config = make_trial({"num_latent_channels": 4, "target_bpp": 0.5})
    with pytest.raises(
        ConfigError, match=r"target_bpp 0\.5 is 7\.92 bits .* num_latent_channels to 13"
    ):
        check_target(config, digits.validation)
    enough = override(config, {"num_latent_channels": 13})
    assert target_bits_per_symbol(enough, digits.validation) < math.log2(6)
    tiny = override(config, {"target_bpp": 1e-4})
    with pytest.raises(ConfigError, match=r"less than the headers of the streams take"):
        check_target(tiny, digits.validation)
    check_target(enough, digits.validation)


def test_images_that_cannot_meet_a_target_are_evaluated_all_the_same(
    trained: Path, digits: Splits
) -> None:
    """A training has been done by then: test images of another size must not lose it."""
    model = load_coding_model(trained)
    for target in (1e-4, 0.9):
        config = override(model.config, {"h_target": None, "target_bpp": target})
        found = evaluate(model.codec, digits.test, config).metrics
        assert found.rate_over_target == pytest.approx(found.bpp_estimated / target, rel=0.2)
        assert math.isfinite(found.loss)


def test_one_target_is_given_or_none() -> None:
    with pytest.raises(ConfigError, match=r"h_target \(0\.5\) and target_bpp \(0\.2\)"):
        make_trial({"h_target": 0.5, "target_bpp": 0.2})
    digits_like = ImageSet(np.zeros((2, 1, 32, 32), np.uint8), ("a", "b"))
    assert target_bits_per_symbol(make_trial({}), digits_like) == 1.0
    assert target_bits_per_symbol(make_trial({"h_target": 0.3}), digits_like) == 0.3


@pytest.mark.parametrize("values", [{"target_bpp": 0.08}, {"h_target": 0.9}])
def test_a_training_meets_the_rate_it_was_asked_for(
    values: dict[str, float], small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    config = override(small_config, {**values, "epochs": 6, "batch_size": 5})
    list(fit(config, digits, tmp_path))
    result = finish(tmp_path, digits)
    assert result.best_epoch == 5
    # 20 validation images, 200 bytes in all.
    assert result.best.rate_over_target == pytest.approx(1.0, abs=0.01)
    if "target_bpp" in values:
        assert result.best.bpp == pytest.approx(values["target_bpp"], rel=0.01)


def test_the_trim_moves_the_rate_and_nothing_but_a_bias(trained: Path, digits: Splits) -> None:
    codec, config = load_codec(trained)

    def asking(**values: float | None) -> TrialConfig:
        return override(config, {"h_target": None, **values})

    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    found = evaluate(codec, digits.validation, config).metrics.bits_per_symbol_estimated
    for factor in (0.9, 1.15):
        shift = trim_rate(codec, digits, asking(h_target=factor * found))
        assert (shift > 0) == (factor > 1)
        now = evaluate(codec, digits.validation, config).metrics.bits_per_symbol_estimated
        assert now == pytest.approx(factor * found, rel=0.005)
        for name, tensor in codec.state_dict().items():
            same = torch.equal(tensor, before[name])
            assert same == (name != "encoder.7.bias"), name
        codec.load_state_dict(before)
    # Out of reach: the nearer end.
    assert trim_rate(codec, digits, asking(h_target=2.58)) == 1.0
    codec.load_state_dict(before)
    assert trim_rate(codec, digits, asking(h_target=1e-6)) == -1.0


def test_the_trim_goes_by_the_bytes_not_by_the_estimate(
    trained: Path, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, config = load_codec(trained)
    found = evaluate(codec, digits.validation, config).metrics.bpp_estimated
    asking = override(config, {"h_target": None, "target_bpp": found})
    header = rate_scale(asking, digits.validation).header_bpp
    honest = trim.written_bpp

    def wasteful(model: CodingModel, images: ImageSet) -> float:
        return header + 1.07 * (honest(model, images) - header)

    monkeypatch.setattr(trim, "written_bpp", wasteful)
    trim_rate(codec, digits, asking)
    now = evaluate(codec, digits.validation, asking).metrics.bpp_estimated
    assert 1.07 * now + header == pytest.approx(found, rel=0.01)


def test_a_trim_that_would_not_help_is_none(
    trained: Path, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, config = load_codec(trained)
    before = codec.encoder[-1].bias.clone()

    def lowest_as_it_is(_: object, __: object, shift: float, **___: object) -> float:
        return 1.0 + shift**2

    monkeypatch.setattr(trim, "_rate", lowest_as_it_is)
    assert trim_rate(codec, digits, override(config, {"h_target": 0.9})) == 0.0
    asking = override(config, {"h_target": None, "target_bpp": 0.05})
    honest = trim.written_bpp
    # Nothing but headers: there is no ratio to go by.
    monkeypatch.setattr(trim, "written_bpp", lambda *_: 0.0)
    assert trim_rate(codec, digits, asking) == 0.0
    # Symbols that cost nothing, and a byte of them all the same.
    monkeypatch.setattr(trim, "written_bpp", honest)
    monkeypatch.setattr(trim, "_rate", lambda *_, **__: 0.0)
    assert trim_rate(codec, digits, asking) == 0.0
    # A jump over the target, and no farther from it at first than after.
    monkeypatch.setattr(trim, "_rate", lambda _, __, shift, **___: 0.8 if shift < 0.5 else 1.1)
    assert trim_rate(codec, digits, override(config, {"h_target": 0.9})) == 0.0
    assert torch.equal(codec.encoder[-1].bias, before)


def test_images_of_several_sizes_are_trimmed_to_the_mean_of_their_rates(
    trained: Path, digits: Splits
) -> None:
    codec, config = load_codec(trained)
    small, other = digits.validation.images[:2]
    large = np.tile(other, (1, 6, 7))[:, :190, :203]
    images = ImageSet((small, other, large), ("a", "b", "c"))
    found = evaluate(codec, images, config).metrics
    headers = rate_scale(override(config, {"h_target": None, "target_bpp": 0.1}), images)
    wanted = 0.95 * found.bpp_estimated + headers.header_bpp
    asking = override(config, {"h_target": None, "target_bpp": wanted})
    trim_rate(codec, digits._replace(validation=images), asking)
    now = evaluate_coded(coding_model_of(codec, digits.train, asking), images).metrics
    # The small ones are 40 bytes each.
    assert now.rate_over_target == pytest.approx(1.0, abs=0.01)
    assert now.bits_per_symbol_estimated != pytest.approx(0.95 * found.bits_per_symbol_estimated)


def test_the_trim_is_the_controllers_and_the_last_epochs(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    def rates(name: str, **values: object) -> list[float]:
        # What so few steps come near to, opening or shutting not much.
        config = override(small_config, {"h_target": 1.75, **values})
        records = list(fit(config, digits, tmp_path / name))
        return [record.val.rate_over_target for record in records if record.val]

    trimmed, plain = rates("a"), rates("b", rate_trim=False)
    assert trimmed[0] == plain[0]
    assert abs(trimmed[1] - 1) < 0.01 < abs(plain[1] - 1)
    hinge = {"rate_control": "hinge"}
    assert rates("c", **hinge) == rates("d", rate_trim=False, **hinge)


def test_photographs_count_their_own_headers_and_filling(
    small_config: TrialConfig, tmp_path: Path
) -> None:
    from rdmodels.data.splits import load_splits

    for index in range(6):
        write_photo(tmp_path / "photos" / f"{index}.png", 70 + index, 90, seed=index)
    values = {
        "dataset": f"folder:{tmp_path / 'photos'}",
        "crop_size": 32,
        "crops_per_image": 8,
        "batch_size": 8,
        "epochs": 4,
        "target_bpp": 0.1,
        "train_images": None,
        "test_images": None,
    }
    config = override(small_config, values)
    splits = load_splits(config)
    records = list(fit(config, splits, tmp_path / "model"))
    last = records[-1].val
    assert last is not None
    assert last.rate_over_target == pytest.approx(1.0, abs=0.01)
    result = finish(tmp_path / "model", splits)
    (image,) = read_images(tmp_path / "model" / VALIDATION_IMAGES)
    assert image.bits_header is not None
    scale = rate_scale(config, splits.validation)
    assert scale.header_bpp == pytest.approx(image.bits_header / image.pixels, rel=0.01)
    assert scale.symbols_per_pixel == image.symbols / image.pixels
    assert result.best.bpp == pytest.approx(0.1 * result.best.rate_over_target)


def test_the_weight_begins_at_zero_under_the_controller_and_at_beta_under_the_hinge(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    for control, weight in (("controller", 0.0), ("hinge", 0.07)):
        config = override(small_config, {"rate_control": control, "beta": 0.07})
        training = start_training(config, digits, tmp_path, CPU, resume=False)
        assert training.rate.weight.item() == pytest.approx(weight)


def test_no_controller_without_an_importance_map() -> None:
    with pytest.raises(ConfigError, match=r"importance_map: false .*set rate_control: hinge"):
        make_trial({"importance_map": False})
    make_trial({"importance_map": False, "rate_control": "hinge"})


def test_each_validation_but_the_trimmed_one_tells_the_control_what_counts(
    small_config: TrialConfig, digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were validation images to cost half of what batches do, batches might cost double."""
    honest = fit_module.evaluate

    def cheaper(*arguments: object, **options: object) -> Evaluation:
        found = honest(*arguments, **options)  # type: ignore[arg-type]
        bits = 0.5 * found.metrics.bits_per_symbol_estimated
        means = dataclasses.replace(found.metrics, bits_per_symbol_estimated=bits)
        return found._replace(metrics=means)

    monkeypatch.setattr(fit_module, "evaluate", cheaper)
    config = override(small_config, {"epochs": 3, "h_target": 1.75})
    ratios = []
    for _ in fit(config, digits, tmp_path):
        tensors = checkpoint.load(tmp_path / checkpoint.CHECKPOINT).tensors
        ratios.append(tensors["rate.ratio"].item())
    assert ratios[0] == pytest.approx(0.3 + 0.7 * 0.5, rel=0.1)
    assert ratios[1] == pytest.approx(0.3 * ratios[0] + 0.7 * 0.5, rel=0.1)
    assert ratios[2] == ratios[1]


def test_a_resumed_control_goes_on_where_it_stood(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    config = override(small_config, {"epochs": 3, "h_target": 0.4})
    (first,) = itertools.islice(fit(config, digits, tmp_path), 1)
    second = next(fit(config, digits, tmp_path, resume=True))
    assert second.train.rate_weight > first.train.rate_weight > 0
    hinge = override(config, {"rate_control": "hinge", "beta": 0.07})
    records = list(fit(hinge, digits, tmp_path / "hinge"))
    assert [record.train.rate_weight for record in records] == pytest.approx([0.07] * 3)
