"""The parts of the recipe, and the paper's behaviour one setting away."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from rdmodels.config import TrialConfig, override
from rdmodels.data.batches import TrainingBatches
from rdmodels.data.splits import Splits
from rdmodels.model.autoencoder import ResidualBlock
from rdmodels.model.codec import Codec
from rdmodels.model.storage import load_codec
from rdmodels.results.collapse import collapse_of
from rdmodels.training.averaging import averaged, update_average
from rdmodels.training.finish import finish
from rdmodels.training.fit import fit
from rdmodels.training.schedule import annealed, decayed, ramp
from rdmodels.training.start import make_codec

PAPER = {
    "rate_control": "hinge",
    "averaging": 0.0,
    "learning_rate_decay": 0.0,
    "context_share": 1.0,
    "residual_init": 1.0,
    "center_at_zero": False,
    "h_target": 0.3,
    "beta": 0.1,
    "epochs": 1,
}


def plainly(codec: Codec, batches: TrainingBatches, config: TrialConfig) -> Codec:
    """The same training, written out: the paper's loss, two kinds of decay, one Adam."""
    scale = 255.0**2
    convolutions, others = [], []
    for name, parameter in codec.named_parameters():
        if name.startswith(("encoder", "decoder")):
            (convolutions if parameter.dim() == 4 else others).append(parameter)
    adams = [
        torch.optim.Adam(convolutions, lr=2e-3, weight_decay=0.005 / scale),
        torch.optim.Adam(others, lr=2e-3),
        torch.optim.Adam([codec.quantizer.centers], lr=2e-3, weight_decay=0.1 / scale),
        torch.optim.Adam(codec.context.parameters(), lr=4e-3),
    ]
    assert config.h_target is not None
    for x in batches.epoch(0):
        out = codec(x)
        centers = codec.quantizer.centers.detach()
        logits = codec.context(centers[out.symbols], centers[0])
        chosen = F.log_softmax(logits, -1).gather(-1, out.symbols.unsqueeze(-1)).squeeze(-1)
        bits = -chosen / torch.log(torch.tensor(2.0))
        h_real, h_mask = bits.detach().mean(), (bits.detach() * out.importance).mean()
        excess = torch.relu((h_real + h_mask) / 2 - config.h_target)
        loss = F.mse_loss(out.x_hat, x) + config.beta * excess + bits.mean()
        for adam in adams:
            adam.zero_grad()
        loss.backward()
        for adam in adams:
            adam.step()
    return codec


def test_the_papers_recipe_is_a_few_settings_away(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    config = override(small_config, PAPER)
    list(fit(config, digits, tmp_path))
    trained, _ = load_codec(tmp_path)
    batches = TrainingBatches(digits.train, config, torch.device("cpu"))
    expected = plainly(make_codec(config, digits.train).train(), batches, config)
    start = make_codec(config, digits.train)
    for name, parameter in trained.named_parameters():
        other = dict(expected.named_parameters())[name]
        moved = (other - dict(start.named_parameters())[name]).abs().max()
        assert (parameter - other).abs().max() < 0.02 * moved, name


@pytest.mark.parametrize(
    "values",
    [
        {"rate_ramp": 0.9},
        {"target_anneal": 0.9},
        {"learning_rate_decay": 1.0},
        {"averaging": 0.9},
        {"context_share": 0.5},
        {"residual_init": 0.0},
        {"center_at_zero": True},
        {"gradient_clip": 1e-3},
        {"importance_bias": 1.0},
        {"rate_control": "controller", "rate_trim": False},
    ],
)
def test_every_part_of_the_recipe_changes_the_weights(
    values: dict[str, object], small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    def weights(name: str, more: dict[str, object]) -> torch.Tensor:
        list(fit(override(small_config, {**PAPER, **more}), digits, tmp_path / name))
        return load_codec(tmp_path / name)[0].encoder[0].weight

    assert not torch.equal(weights("paper", {}), weights("changed", values))


def test_schedules_begin_and_end_where_they_say() -> None:
    assert [decayed(done, 0.4) for done in (0.0, 0.6, 0.8)] == pytest.approx([1, 1, 0.5])
    assert decayed(0.999, 0.4) == pytest.approx(0.0025)
    assert decayed(0.999, 0.0) == 1.0
    assert decayed(0.25, 1.0) == pytest.approx(0.75)
    assert [ramp(done, 0.6) for done in (0.0, 0.3, 0.6, 0.9)] == [0, 0.5, 1, 1]
    assert ramp(0.0, 0.0) == 1.0
    falling = [annealed(0.5, 2.5, done, 0.4) for done in (0.0, 0.2, 0.4, 0.9)]
    assert falling == pytest.approx([2.5, 1.5, 0.5, 0.5])
    assert annealed(0.5, 2.5, 0.0, 0.0) == 0.5


def test_the_average_is_of_the_weights_and_forgets_the_first(
    small_config: TrialConfig, digits: Splits
) -> None:
    codec = make_codec(small_config, digits.train)
    average = averaged(codec)
    expected = codec.quantizer.centers.detach().clone()
    for step in range(30):
        with torch.no_grad():
            codec.quantizer.centers += 0.1
            codec.encoder[1].running_mean += 1.0
        update_average(average, codec, step, 0.7)
        decay = min(0.7, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * codec.quantizer.centers.detach()
    assert torch.allclose(average.quantizer.centers, expected)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    # Statistics are estimated for the averaged weights, not averaged.
    assert torch.equal(average.encoder[1].running_mean, torch.zeros(4))


@pytest.mark.parametrize("trimmed", [False, True])
def test_what_is_kept_is_the_average(
    trimmed: bool, small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    from rdmodels import checkpoint

    values = {"epochs": 1, "h_target": 0.6, "rate_trim": trimmed}
    list(fit(override(small_config, values), digits, tmp_path))
    kept = checkpoint.load(tmp_path / checkpoint.MODEL).tensors
    state = checkpoint.load(tmp_path / checkpoint.CHECKPOINT).tensors
    for name, tensor in kept.items():
        if trimmed and (name == "encoder.7.bias" or "running" in name):
            continue
        assert torch.equal(tensor, state[f"average.{name}"]), name
    # A training that goes on does so from weights that were not trimmed.
    shift = kept["encoder.7.bias"] - state["average.encoder.7.bias"]
    assert bool(shift[0] != 0) == trimmed
    assert not shift[1:].any()
    assert not torch.equal(kept["encoder.0.weight"], state["model.encoder.0.weight"])


def test_a_residual_block_begins_with_its_skip(small_config: TrialConfig, digits: Splits) -> None:
    x = torch.rand(2, 8, 4, 4)
    for init in (0.0, 1.0):
        codec = make_codec(override(small_config, {"residual_init": init}), digits.train)
        blocks = [m for m in codec.modules() if isinstance(m, ResidualBlock)]
        assert len(blocks) == 8
        assert all(torch.equal(block(x), x) == (init == 0.0) for block in blocks)
        # Through the last scale alone: behind two zeros nothing would ever learn.
        assert all(bool((block.body[1].weight == 1).all()) for block in blocks)


def test_the_importance_map_begins_as_open_as_it_is_told(
    small_config: TrialConfig, digits: Splits
) -> None:
    x = torch.rand(20, 1, 32, 32)
    shares = []
    for bias in (-2.0, 0.0, 2.0):
        codec = make_codec(override(small_config, {"importance_bias": bias}), digits.train)
        shares.append(codec(x).importance.mean().item())
    assert shares[0] < 0.3 < shares[1] < 0.7 < shares[2]


def test_a_training_too_short_for_its_context_model_is_said_to_have_collapsed(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    list(fit(small_config, digits, tmp_path))
    result = finish(tmp_path, digits)
    assert result.collapsed == collapse_of(result.best, 0.5)
    assert result.collapsed is not None
    assert "stale" in result.collapsed


def test_where_the_time_goes_adds_up(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    import time

    started = time.perf_counter()
    *_, record = fit(small_config, digits, tmp_path)
    elapsed = time.perf_counter() - started
    parts = record.seconds
    assert min(parts.training, parts.statistics, parts.validation, parts.storing) > 0
    assert 0.5 * elapsed < parts.total <= elapsed
    assert parts.training_share == pytest.approx(parts.training / parts.total)
