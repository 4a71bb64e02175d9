"""The pure step: what it computes, and that many trials can be mapped over it."""

import pytest
import torch
from torch.func import functional_call, grad, stack_module_state, vmap

from rdmodels.config import TrialConfig, make_trial
from rdmodels.model.codec import Codec
from rdmodels.training.start import make_optimiser
from rdmodels.training.step import step_loss, step_options, train_step

SMALL = {"width": 8, "groups": 1, "num_latent_channels": 3, "context_features": 4}
BETAS = torch.tensor([0.01, 0.3])
TARGETS = torch.tensor([0.2, 2.0])


def make(seed: int, config: TrialConfig) -> Codec:
    torch.manual_seed(seed)
    codec = Codec(config, [0.5], [0.3]).train()
    # An untrained context model costs the same whatever it sees.
    torch.nn.init.normal_(codec.context.logits.weight, std=0.2)
    return codec


def test_a_step_lowers_its_loss_and_returns_the_figures_before_it() -> None:
    config = make_trial({**SMALL, "learning_rate": 0.01})
    codec = make(0, config)
    optimiser = make_optimiser(codec, config)
    x = torch.rand(4, 1, 16, 16)
    options = step_options(config)
    values = (torch.tensor(0.1), torch.tensor(0.5))
    figures = [train_step(codec, optimiser, x, *values, options) for _ in range(30)]
    assert all(each.shape == (3,) for each in figures)
    assert figures[-1][1] < figures[0][1]
    assert figures[-1][2] < figures[0][2]


@pytest.mark.parametrize("normalisation", ["group", "batch"])
def test_stacked_trials_take_the_step_that_each_takes_alone(normalisation: str) -> None:
    config = make_trial({**SMALL, "normalisation": normalisation})
    codecs = [make(seed, config) for seed in (0, 1)]
    x = torch.rand(2, 4, 1, 16, 16)
    options = step_options(config)
    parameters, buffers = stack_module_state(codecs)
    skeleton = make(2, config)

    def loss(
        own: dict[str, torch.Tensor],
        state: dict[str, torch.Tensor],
        batch: torch.Tensor,
        beta: torch.Tensor,
        h_target: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return step_loss(skeleton, {**own, **state}, batch, beta, h_target, options)

    both, figures = vmap(grad(loss, has_aux=True))(parameters, buffers, x, BETAS, TARGETS)
    for index, codec in enumerate(codecs):
        objective, own = step_loss(codec, {}, x[index], BETAS[index], TARGETS[index], options)
        objective.backward()
        assert torch.allclose(figures[index], own, rtol=1e-4)
        for name, parameter in codec.named_parameters():
            assert parameter.grad is not None
            assert torch.allclose(both[name][index], parameter.grad, rtol=1e-3, atol=1e-5), name


def test_given_tensors_take_the_place_of_the_codecs_own() -> None:
    config = make_trial(SMALL)
    one, other = make(0, config), make(1, config)
    x = torch.rand(2, 1, 16, 16)
    values = (torch.tensor(0.1), torch.tensor(0.5))
    options = step_options(config)
    borrowed = step_loss(one, dict(other.state_dict(keep_vars=True)), x, *values, options)
    own = step_loss(other, {}, x, *values, options)
    assert torch.equal(borrowed[0], own[0])
    assert functional_call(one, dict(other.named_parameters()), (x,)).x_hat.shape == x.shape


def test_the_rate_of_a_step_is_that_of_the_first_part_of_its_batch() -> None:
    config = make_trial({**SMALL, "context_share": 0.4, "normalisation": "group"})
    codec = make(0, config)
    x = torch.rand(5, 1, 16, 16)
    weight = torch.tensor(0.3)
    _, figures = step_loss(codec, {}, x, weight, torch.tensor(0.5), step_options(config))
    out = codec(x, 2)
    h_mask = (out.bits * out.importance[:2]).mean()
    distortion = (out.x_hat - x).square().mean()
    expected = torch.stack([distortion + weight * h_mask / 2, distortion, out.bits.mean()])
    assert torch.allclose(figures, expected)
    assert not torch.allclose(out.importance[:2], out.importance[-2:])


def test_the_context_models_gradient_is_not_clipped() -> None:
    config = make_trial({**SMALL, "gradient_clip": 1e-4})
    x = torch.rand(4, 1, 16, 16)
    values = (torch.tensor(0.1), torch.tensor(0.5))
    gradients = []
    for clip in (None, config.gradient_clip):
        codec = make(0, config)
        options = step_options(config)._replace(gradient_clip=clip)
        train_step(codec, make_optimiser(codec, config), x, *values, options)
        gradients.append({n: p.grad for n, p in codec.named_parameters() if p.grad is not None})
    plain, clipped = gradients
    own = [name for name in plain if name.startswith("context.")]
    assert own
    assert all(torch.equal(plain[name], clipped[name]) for name in own)
    others = torch.cat([clipped[name].flatten() for name in plain if name not in own])
    assert others.norm().item() == pytest.approx(1e-4, rel=1e-3)
