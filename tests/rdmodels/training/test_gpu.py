"""What a GPU trains and codes; runs where there is one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rdmodels import checkpoint
from rdmodels.coding.bitstream import compress_batch, decompress_batch, decompress_symbols
from rdmodels.coding.coding_model import load_coding_model
from rdmodels.config import TrialConfig, override
from rdmodels.data.splits import Splits
from rdmodels.training.finish import finish
from rdmodels.training.fit import fit

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    # What torch's compiler says of its own parts.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("values", [{}, {"precision": "bf16"}, {"compiled": True}])
def test_a_gpu_trains_as_a_cpu_does(
    values: dict[str, object], small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    config = override(small_config, {**values, "epochs": 6, "batch_size": 10, "h_target": 0.6})
    plain = override(config, {"precision": "fp32", "compiled": False})
    found = {}
    for device, own in (("cpu", plain), ("cuda", config)):
        list(fit(own, digits, tmp_path / device, device=device))
        found[device] = finish(tmp_path / device, digits, device=device)
    cpu, gpu = found["cpu"].test, found["cuda"].test
    assert cpu.psnr_db is not None
    assert gpu.psnr_db == pytest.approx(cpu.psnr_db, abs=1.0)
    assert gpu.bits_per_symbol_estimated == pytest.approx(0.6, rel=0.1)


def test_what_a_gpu_wrote_a_cpu_reads_and_the_other_way(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    config = override(small_config, {"epochs": 3, "batch_size": 10, "h_target": 0.6})
    list(fit(config, digits, tmp_path, device="cuda"))
    finish(tmp_path, digits, device="cuda")
    models = {name: load_coding_model(tmp_path, name) for name in ("cpu", "cuda")}
    pixels = np.stack(list(digits.test.images))
    for writer, reader in (("cpu", "cuda"), ("cuda", "cpu")):
        stream = compress_batch(models[writer], pixels)
        own, other = (decompress_symbols(models[name], stream)[0] for name in (writer, reader))
        assert torch.equal(own.cpu(), other.cpu())
        images = [decompress_batch(models[name], stream) for name in (writer, reader)]
        difference = np.abs(np.subtract(*images, dtype=np.int16))
        # A level where rounding to 8 bits falls to the other side.
        assert difference.max() <= 1


def test_a_training_on_a_gpu_goes_on_from_its_checkpoint(
    small_config: TrialConfig, digits: Splits, tmp_path: Path
) -> None:
    config = override(small_config, {"epochs": 4})
    list(fit(config, digits, tmp_path / "whole", device="cuda"))
    broken = fit(config, digits, tmp_path / "broken", device="cuda")
    next(broken), next(broken)
    broken.close()
    list(fit(config, digits, tmp_path / "broken", device="cuda", resume=True))
    whole, gone_on = (
        checkpoint.load(tmp_path / name / checkpoint.CHECKPOINT).tensors
        for name in ("whole", "broken")
    )
    assert [name for name in whole if not torch.equal(whole[name], gone_on[name])] == []
