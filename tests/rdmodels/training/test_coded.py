from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from rdmodels.coding.bitstream import compress_batch
from rdmodels.coding.coding_model import CodingModel, load_coding_model
from rdmodels.config import TrialConfig
from rdmodels.data.images import ImageSet
from rdmodels.data.splits import Splits
from rdmodels.errors import EvaluationError
from rdmodels.results.images import write_images
from rdmodels.training import coded as coded_module
from rdmodels.training.coded import evaluate_coded
from rdmodels.training.evaluation import evaluate
from tests.conftest import write_photo


@pytest.fixture(scope="module")
def model(trained: Path) -> CodingModel:
    return load_coding_model(trained)


def test_the_rate_is_that_of_the_written_stream(model: CodingModel, digits: Splits) -> None:
    coded = evaluate_coded(model, digits.test)
    stacked = digits.test.stacked
    assert stacked is not None
    stream = compress_batch(model, stacked)
    written = sum(image.bits_written or 0 for image in coded.images)
    assert written == pytest.approx(8 * len(stream))
    assert coded.metrics.bpp == pytest.approx(8 * len(stream) / stacked[:, 0].size)
    assert all(image.decoded_equal for image in coded.images)
    assert {image.stream_images for image in coded.images} == {len(digits.test)}


def test_the_estimate_stands_beside_it_and_is_close(model: CodingModel, digits: Splits) -> None:
    coded = evaluate_coded(model, digits.test)
    estimated = evaluate(model.codec, digits.test, model.config)
    assert coded.metrics.bpp_estimated == pytest.approx(estimated.metrics.bpp, rel=1e-5)
    assert estimated.metrics.bpp_estimated is None
    header = sum(image.bits_header or 0 for image in coded.images)
    symbols = sum(image.bits_estimated for image in coded.images)
    written = sum(image.bits_written or 0 for image in coded.images)
    assert written - header == pytest.approx(symbols, rel=0.01, abs=16)
    assert coded.metrics.mse == pytest.approx(estimated.metrics.mse, rel=1e-3)


def test_large_images_have_a_stream_each(tmp_path: Path, small_config: TrialConfig) -> None:
    from rdmodels.data.splits import load_splits
    from rdmodels.training.finish import finish
    from rdmodels.training.fit import fit

    for index in range(5):
        write_photo(tmp_path / "photos" / f"{index}.png", 41 + index, 90, seed=index)
    config = small_config.model_copy(
        update={
            "dataset": f"folder:{tmp_path / 'photos'}",
            "crop_size": 32,
            "batch_size": 1,
            "epochs": 3,
        }
    )
    splits = load_splits(config)
    list(fit(config, splits, tmp_path / "model"))
    finish(tmp_path / "model", splits)
    table = pq.read_table(tmp_path / "model" / "test.parquet").to_pylist()
    assert [row["name"] for row in table] == list(splits.test.names)
    for row in table:
        assert row["stream_images"] == 1
        assert row["bits_written"] % 8 == 0
        assert row["bits_written"] > row["bits_header"] > 0
        assert row["decoded_equal"] is True
        assert row["encode_seconds"] > 0
        assert row["decode_seconds"] > 0


def test_the_table_has_a_column_for_every_field(
    model: CodingModel, digits: Splits, tmp_path: Path
) -> None:
    images = evaluate_coded(model, digits.test.take(range(3))).images
    write_images(tmp_path / "t.parquet", images)
    table = pq.read_table(tmp_path / "t.parquet")
    assert set(table.column_names) == set(vars(images[0]))
    assert table["ms_ssim"].null_count == 3


def test_symbols_that_come_back_changed_fail_loudly(
    model: CodingModel, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = coded_module.decompress_symbols

    def flipping(*arguments: object) -> tuple[torch.Tensor, tuple[int, int]]:
        symbols, size = honest(*arguments)  # type: ignore[arg-type]
        symbols[0, 0, 0, 0] = 5 - symbols[0, 0, 0, 0]
        return symbols, size

    monkeypatch.setattr(coded_module, "decompress_symbols", flipping)
    with pytest.raises(EvaluationError, match=r"1 of .* symbols of .* came back changed"):
        evaluate_coded(model, digits.test)


def test_a_small_set_fits_streams_of_a_thousand(digits: Splits) -> None:
    stacked = digits.train.stacked
    assert stacked is not None
    many = ImageSet(stacked.repeat(6, axis=0), tuple(map(str, range(6 * len(stacked)))))
    sizes = [len(names) for names, _ in coded_module._streams(many)]
    assert sizes == [1000, 6 * len(stacked) - 1000]
