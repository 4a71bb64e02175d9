"""Batch-norm statistics: of enough images, whatever an epoch has."""

import pytest
import torch

from rdmodels.config import TrialConfig, override
from rdmodels.data.batches import TrainingBatches
from rdmodels.data.splits import Splits, load_splits
from rdmodels.training.start import make_codec
from rdmodels.training.statistics import batches_of, reestimate_batch_norm
from tests.conftest import write_photo

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photographs(
    small_config: TrialConfig, tmp_path_factory: pytest.TempPathFactory
) -> TrialConfig:
    """Of crops, one of each of a dozen images an epoch."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(12):
        write_photo(folder / f"{index}.png", 70 + index, 90, seed=index)
    values = {"dataset": f"folder:{folder}", "crop_size": 32, "batch_size": 4}
    return override(small_config, {**values, "train_images": None, "test_images": None})


def test_statistics_are_of_more_crops_than_an_epoch_has(photographs: TrialConfig) -> None:
    splits = load_splits(photographs)
    batches = TrainingBatches(splits.train, photographs, CPU)
    count = batches_of(batches)
    assert count * photographs.batch_size == 8 * len(splits.train) > batches.images_per_epoch
    codec = make_codec(photographs, splits.train)
    seen: list[torch.Tensor] = []
    codec.register_forward_pre_hook(lambda *_: pytest.fail("the context model is not needed"))
    codec.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    reestimate_batch_norm(codec, batches, 3)
    assert len(seen) == count
    # Fresh crops in every round, and the same ones for whoever does it again.
    assert not any(torch.equal(seen[0], other) for other in seen[1:])
    kept = codec.encoder[1].running_mean.clone()
    reestimate_batch_norm(codec, batches, 3)
    assert torch.equal(codec.encoder[1].running_mean, kept)


def test_how_many_batches_statistics_are_of(
    photographs: TrialConfig, small_config: TrialConfig, digits: Splits
) -> None:
    def count(config: TrialConfig, images: int, batch_size: int) -> int:
        config = override(config, {"batch_size": batch_size})
        return batches_of(TrainingBatches(digits.train.take(range(images)), config, CPU))

    assert count(small_config, 80, 5) == 8
    assert count(small_config, 12, 5) == 3
    assert count(photographs, 10, 4) == 20
    assert count(photographs, 10, 40) == 8
    most = TrainingBatches(digits.train, override(photographs, {"batch_size": 1}), CPU)
    assert batches_of(most) == min(1024, 8 * len(digits.train))
