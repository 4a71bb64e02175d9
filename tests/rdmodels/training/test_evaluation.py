"""Figures of a validation: of the whole set, whatever its batches."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from rdmodels.config import TrialConfig, make_trial, override
from rdmodels.data.images import ImageSet, to_float
from rdmodels.data.splits import Splits
from rdmodels.model.codec import Codec
from rdmodels.model.storage import load_codec
from rdmodels.training.evaluation import criterion, evaluate


@pytest.fixture(scope="module")
def codec(trained: Path) -> Codec:
    return load_codec(trained)[0]


def parts(codec: Codec, images: ImageSet) -> tuple[float, float]:
    """Distortion per image and H_soft over all symbols, image by image."""
    distortion, bits, masked, symbols = 0.0, 0.0, 0.0, 0
    with torch.no_grad():
        for pixels in images.images:
            x = to_float(torch.tensor(pixels)).unsqueeze(0)
            out = codec(x)
            distortion += float((out.x_hat - x).square().mean())
            bits += float(out.bits.sum())
            masked += float((out.bits * out.importance).sum())
            symbols += out.bits.numel()
    return distortion / len(images), (bits + masked) / 2 / symbols


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_the_loss_clamps_once_over_the_whole_set(
    batch_size: int, codec: Codec, digits: Splits, small_config: TrialConfig
) -> None:
    distortion, h_soft = parts(codec, digits.validation)
    for factor in (0.5, 0.95, 1.0, 1.05):
        # Around the target some images are above it and some below: the mean of their clamped
        # excesses is not the excess of their mean.
        values = {"h_target": factor * h_soft, "beta": 0.5, "batch_size": batch_size}
        values |= {"rate_control": "hinge"}
        config = override(small_config, values)
        found = evaluate(codec, digits.validation, config).metrics.loss
        expected = distortion + 0.5 * max(h_soft - factor * h_soft, 0)
        assert found == pytest.approx(expected, rel=1e-5)


def test_images_of_several_sizes_weigh_by_their_symbols(
    codec: Codec, digits: Splits, small_config: TrialConfig
) -> None:
    one, two = digits.test.images[:2]
    mixed = ImageSet((one, np.concatenate([two, two], axis=1)), ("a", "b"))
    distortion, h_soft = parts(codec, mixed)
    values = {"h_target": h_soft / 2, "beta": 1.0, "rate_control": "hinge"}
    config = override(small_config, values)
    found = evaluate(codec, mixed, config)
    assert found.metrics.loss == pytest.approx(distortion + h_soft / 2, rel=1e-5)
    bits = [image.bits_estimated for image in found.images]
    rates = [bits[0] / one.size, bits[1] / (2 * one.size)]
    assert found.metrics.bpp_estimated == pytest.approx(sum(rates) / 2)
    symbols = sum(image.symbols for image in found.images)
    assert found.metrics.bits_per_symbol_estimated == pytest.approx(sum(bits) / symbols)


def test_the_mode_of_the_codec_is_left_as_it_was(
    codec: Codec, digits: Splits, small_config: TrialConfig
) -> None:
    for mode in (True, False):
        codec.train(mode)
        evaluate(codec, digits.test, small_config)
        assert codec.training is mode


def test_how_the_latent_is_used_is_measured(
    codec: Codec, digits: Splits, small_config: TrialConfig
) -> None:
    found = evaluate(codec, digits.validation, small_config).metrics
    stacked = digits.validation.stacked
    assert stacked is not None
    with torch.no_grad():
        out = codec(to_float(torch.tensor(stacked)))
    shares = torch.bincount(out.symbols.flatten(), minlength=6).double() / out.symbols.numel()
    present = shares[shares > 0]
    assert found.importance == pytest.approx(float(out.importance.mean()), rel=1e-4)
    assert found.centers_used == int((shares >= 0.001).sum())
    assert found.symbol_entropy == pytest.approx(float(-(present * present.log2()).sum()))


def test_structural_figures_are_left_out_where_they_are_not_wanted(
    codec: Codec, digits: Splits, small_config: TrialConfig
) -> None:
    whole = evaluate(codec, digits.test, small_config).metrics
    part = evaluate(codec, digits.test, small_config, structural=False).metrics
    assert whole.ssim is not None
    assert part == dataclasses.replace(whole, ssim=None)


def test_the_controllers_best_epoch_is_judged_at_the_target() -> None:
    config = make_trial({"rate_control": "controller"})
    assert criterion(0.01, (0.5, 0.1), 0.5, 1.0, config) == 0.01
    assert criterion(0.01, (0.2, 0.1), 0.5, 0.4, config) == 0.01
    assert criterion(0.01, (1.0, 0.1), 0.5, 2.0, config) == pytest.approx(0.04)
    hinge = make_trial({"rate_control": "hinge", "beta": 0.3})
    assert criterion(0.01, (1.0, 0.6), 0.5, 2.0, hinge) == pytest.approx(0.01 + 0.3 * 0.3)
    assert criterion(0.01, (0.4, 0.3), 0.5, 0.8, hinge) == pytest.approx(0.01)
