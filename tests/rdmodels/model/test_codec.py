import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rdmodels.config import TrialConfig, make_trial
from rdmodels.model.codec import Codec, CodecOutput
from rdmodels.model.context import ContextModel, MaskedConv, cross_entropy_bits
from rdmodels.model.importance import importance_mask
from rdmodels.model.loss import Loss, image_distortion, rate_distortion_loss
from rdmodels.model.quantizer import Quantizer

PAD = torch.tensor(-2.0)


def random_context(features: int = 6, centers: int = 6) -> ContextModel:
    torch.manual_seed(0)
    context = ContextModel(centers, features)
    torch.nn.init.normal_(context.logits.weight, std=0.2)
    return context


def conv3d(layer: MaskedConv, x: torch.Tensor, pad_value: float) -> torch.Tensor:
    """The layer as what it stands for: a masked 3-D convolution."""
    onward, own = (layer.weight * layer.mask).chunk(2)
    padded = F.pad(x.permute(0, 4, 1, 2, 3), (1, 1, 1, 1, 1, 0), value=pad_value)
    out = F.conv3d(padded, torch.stack([onward, own], dim=2), layer.bias)
    return out.permute(0, 2, 3, 4, 1)


def test_the_folded_context_model_is_the_three_dimensional_one() -> None:
    context = random_context()
    y_hat = torch.randn(2, 5, 6, 7)
    first = F.relu(conv3d(context.conv0, y_hat.unsqueeze(-1), PAD.item()))
    features = first + conv3d(context.conv2, F.relu(conv3d(context.conv1, first, 0)), 0)
    expected = conv3d(context.logits, features, 0)
    assert torch.allclose(context(y_hat, PAD), expected, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)))
def test_changing_a_symbol_leaves_all_earlier_and_its_own_logits_alone(
    position: tuple[int, int, int],
) -> None:
    context = random_context()
    y_hat = torch.randn(1, 4, 5, 6)
    changed = y_hat.clone()
    changed[0][position] += 3.0
    differs = (context(y_hat, PAD) - context(changed, PAD)).abs().amax(dim=-1)[0] > 0
    index = int(torch.arange(4 * 5 * 6).reshape(4, 5, 6)[position])
    assert not differs.flatten()[: index + 1].any()


def test_the_receptive_field_is_five_by_nine_by_nine() -> None:
    context = random_context()
    y_hat = torch.randn(1, 8, 21, 21, requires_grad=True)
    context(y_hat, PAD)[0, 7, 10, 10].sum().backward()
    assert y_hat.grad is not None
    channels, rows, columns = (axis.unique() for axis in y_hat.grad[0].nonzero(as_tuple=True))
    assert channels.tolist() == [3, 4, 5, 6, 7]
    assert (rows.min(), rows.max()) == (6, 14)
    assert (columns.min(), columns.max()) == (6, 14)


def test_an_untrained_context_model_costs_exactly_raw_coding() -> None:
    symbols = torch.randint(0, 6, (2, 3, 4, 4))
    logits = ContextModel(6, 8)(torch.randn(2, 3, 4, 4), PAD)
    assert torch.allclose(cross_entropy_bits(logits, symbols), torch.tensor(math.log2(6)))


def test_the_quantizer_takes_the_nearest_center_and_passes_a_gradient() -> None:
    quantizer = Quantizer(6, sigma=1.0)
    y = torch.linspace(-3, 3, 101, requires_grad=True)
    y_hat, symbols = quantizer(y)
    nearest = (y[:, None] - quantizer.centers).abs().argmin(1)
    assert torch.equal(symbols, nearest)
    assert torch.allclose(y_hat, quantizer.centers[nearest], atol=1e-6)
    y_hat.sum().backward()
    assert y.grad is not None
    assert (y.grad > 0).all()


def test_what_the_importance_map_shuts_out_lies_on_a_center_at_first() -> None:
    for count in (2, 5, 6, 64):
        centers = Quantizer(count, sigma=1.0).centers
        step = 4 / (count - 1)
        assert centers.abs().min() < 1e-6
        assert torch.allclose(centers.diff(), torch.full((count - 1,), step))
    evenly = Quantizer(6, sigma=1.0, at_zero=False).centers
    assert torch.equal(evenly, torch.linspace(-2, 2, 6))
    assert Codec(make_trial({}), [0.5], [0.2]).quantizer.centers.abs().min() < 1e-6
    even = make_trial({"center_at_zero": False})
    assert torch.equal(Codec(even, [0.5], [0.2]).quantizer.centers, evenly)


def test_the_importance_map_opens_channels_from_the_first() -> None:
    z0 = torch.tensor([[[-200.0, 0.0, 50.0]]], requires_grad=True)
    mask = importance_mask(z0, 5)
    assert mask.shape == (1, 5, 1, 3)
    assert mask[0, :, 0, 0].tolist() == [0, 0, 0, 0, 0]
    assert mask[0, :, 0, 1].tolist() == [1, 1, 0.5, 0, 0]
    assert mask[0, :, 0, 2].tolist() == [1, 1, 1, 1, 1]
    mask[0, :, 0, 1].sum().backward()
    assert z0.grad is not None
    assert z0.grad[0, 0, 1] > 0


UNMASKED = {"importance_map": False, "rate_control": "hinge"}


@pytest.mark.parametrize("values", [{}, UNMASKED, {"normalisation": "group"}])
@pytest.mark.parametrize("size", [(16, 24), (13, 9), (8, 8)])
def test_any_size_comes_back_in_its_own_shape(
    values: dict[str, object], size: tuple[int, int]
) -> None:
    config = make_trial({"width": 8, "groups": 1, "num_latent_channels": 3, **values})
    codec = Codec(config, [0.4, 0.5, 0.6], [0.2, 0.2, 0.2]).eval()
    x = torch.rand(2, 3, *size)
    out = codec(x)
    latent = (2, 3, math.ceil(size[0] / 8), math.ceil(size[1] / 8))
    assert out.x_hat.shape == x.shape
    assert out.symbols.shape == out.bits.shape == out.importance.shape == latent
    assert out.x_hat.min() >= 0
    assert out.x_hat.max() <= 1


def loss_of(x: torch.Tensor, out: CodecOutput, config: TrialConfig) -> Loss:
    weight, h_target = torch.tensor(config.beta), torch.tensor(config.h_target)
    distortion = image_distortion(x, out.x_hat, config.distortion)
    return rate_distortion_loss(
        distortion, out.bits, out.importance, weight, h_target, config.rate_control
    )


def gradients(codec: Codec, values: dict[str, object]) -> dict[str, bool]:
    config = make_trial({"width": 8, "groups": 1, "num_latent_channels": 3, **values})
    x = torch.rand(2, 1, 16, 16)
    codec.zero_grad()
    out = codec(x)
    (loss_of(x, out, config).objective - (out.x_hat - x).square().mean()).backward()
    parts = {
        "encoder": codec.encoder,
        "decoder": codec.decoder,
        "quantizer": codec.quantizer,
        "context": codec.context,
    }
    return {
        name: any(
            p.grad is not None and bool(p.grad.abs().sum() > 1e-9) for p in part.parameters()
        )
        for name, part in parts.items()
    }


def test_what_the_rate_trains() -> None:
    """The encoder through the importance map alone, under the hinge only above the target; the
    context model always."""
    torch.manual_seed(0)
    config = make_trial({"width": 8, "groups": 1, "num_latent_channels": 3})
    codec = Codec(config, [0.5], [0.3])
    on = {"encoder": True, "decoder": False, "quantizer": False, "context": True}
    for control, below in (("hinge", {**on, "encoder": False}), ("controller", on)):
        values = {"rate_control": control, "h_target": 0.1}
        assert gradients(codec, values) == on
        assert gradients(codec, {**values, "h_target": 2.58}) == below
        plain = make_trial({"width": 8, "groups": 1, "num_latent_channels": 3, **UNMASKED})
        unmasked = gradients(Codec(plain, [0.5], [0.3]), values)
        assert not unmasked["encoder"]


def test_the_loss_is_the_papers_under_the_hinge() -> None:
    values = {"rate_control": "hinge", "beta": 0.3, "h_target": 0.5}
    config = make_trial({"width": 8, "groups": 1, "num_latent_channels": 3, **values})
    codec = Codec(config, [0.5], [0.3])
    x = torch.rand(2, 1, 16, 16)
    out = codec(x)
    loss = loss_of(x, out, config)
    h_soft = (out.bits.mean() + (out.bits * out.importance).mean()) / 2
    expected = (out.x_hat - x).square().mean() + 0.3 * max(h_soft.item() - 0.5, 0)
    assert torch.allclose(loss.total, expected)
    assert torch.allclose(loss.distortion, (out.x_hat - x).square().mean())
    assert torch.allclose(loss.bits_per_symbol, out.bits.mean())
    assert torch.allclose(loss.objective, expected + out.bits.mean())


def test_under_the_controller_the_rate_has_its_weight_at_any_rate() -> None:
    values = {"rate_control": "controller", "beta": 0.3, "h_target": 2.5}
    config = make_trial({"width": 8, "groups": 1, "num_latent_channels": 3, **values})
    x = torch.rand(2, 1, 16, 16)
    out = Codec(config, [0.5], [0.3])(x)
    loss = loss_of(x, out, config)
    h_mask = (out.bits * out.importance).mean().item()
    assert loss.total.item() == pytest.approx(loss.distortion.item() + 0.3 * h_mask / 2)


def test_the_rate_of_a_part_of_the_batch_is_that_of_its_first_images() -> None:
    config = make_trial({"width": 8, "groups": 1, "num_latent_channels": 3})
    codec = Codec(config, [0.5], [0.3])
    x = torch.rand(5, 1, 16, 16)
    whole, part = codec(x), codec(x, 2)
    assert part.bits.shape == (2, 3, 2, 2)
    assert torch.allclose(part.bits, whole.bits[:2])
    assert torch.equal(part.x_hat, whole.x_hat)


def test_ms_ssim_is_minimised_as_one_minus_it() -> None:
    x = torch.rand(2, 3, 176, 176)
    near, far = (x + scale * torch.randn_like(x) for scale in (0.01, 0.2))
    distances = [image_distortion(x, each.clamp(0, 1), "ms_ssim").item() for each in (near, far)]
    assert 0 < distances[0] < distances[1] < 1
    assert image_distortion(x, x, "ms_ssim").item() == pytest.approx(0, abs=1e-6)
