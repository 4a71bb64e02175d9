"""The compiled step: same numbers, for batches of the usual size, and where it can be."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rdmodels import checkpoint
from rdmodels.config import TrialConfig, override
from rdmodels.data.splits import Splits
from rdmodels.errors import ConfigError
from rdmodels.training import compiled, start
from rdmodels.training.fit import fit
from rdmodels.training.step import step_loss

CPU = torch.device("cpu")


def has_compiler() -> bool:
    try:
        compiled.check_compiler("cpu")
    except ConfigError:
        return False
    return True


def test_only_batches_of_the_usual_size_are_compiled(
    small_config: TrialConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[str, list[int]] = {"compiled": [], "plain": []}
    asked: list[Any] = []

    def recording(name: str) -> Any:
        return lambda _codec, _tensors, x, *_rest: sizes[name].append(len(x))

    def compile_(function: Any, **options: Any) -> Any:
        asked.append((function is plain, options))
        return recording("compiled")

    plain = recording("plain")
    monkeypatch.setattr(compiled, "check_compiler", asked.append)
    monkeypatch.setattr(compiled.torch.compiler, "reset", lambda: asked.append("reset"))
    monkeypatch.setattr(compiled.torch, "compile", compile_)
    monkeypatch.setattr(compiled, "step_loss", plain)
    loss = compiled.step_loss_of(override(small_config, {"compiled": True}), CPU, 8)
    for count in (8, 8, 3):
        loss(None, {}, torch.zeros(count, 1))
    assert sizes == {"compiled": [8, 8], "plain": [3]}
    assert asked == ["cpu", "reset", (True, {"dynamic": False})]


def test_a_set_smaller_than_a_batch_is_compiled_as_it_is(
    small_config: TrialConfig, digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual: list[int] = []
    monkeypatch.setattr(start, "step_loss_of", lambda _config, _device, size: usual.append(size))
    for size in (30, 1000):
        config = override(small_config, {"batch_size": size})
        start.start_training(config, digits, tmp_path, CPU, resume=False)
    assert usual == [30, len(digits.train)]


def test_nothing_is_compiled_unless_asked_for(small_config: TrialConfig) -> None:
    assert compiled.step_loss_of(small_config, CPU, 30) is step_loss


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_compiled_steps_train_as_others_do_and_resume_to_the_bit(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    if not has_compiler():
        pytest.skip("needs a C++ compiler")
    # 180 images: the last batch of an epoch has 20.
    config = override(small_config, {"batch_size": 40, "epochs": 2, "compiled": True})
    list(fit(override(config, {"compiled": False}), digits, tmp_path / "plain"))
    list(fit(config, digits, tmp_path / "whole"))
    broken = fit(config, digits, tmp_path / "broken")
    next(broken)
    broken.close()
    list(fit(config, digits, tmp_path / "broken", resume=True))
    plain, whole, gone_on = (
        checkpoint.load(tmp_path / name / checkpoint.CHECKPOINT).tensors
        for name in ("plain", "whole", "broken")
    )
    assert all(torch.equal(whole[name], gone_on[name]) for name in whole)
    weights = [name for name in plain if name.startswith("model.") and "running" not in name]
    assert any(not torch.equal(plain[name], whole[name]) for name in weights)
    for name in weights:
        assert torch.allclose(plain[name].float(), whole[name].float(), rtol=0.05, atol=2e-3), name
