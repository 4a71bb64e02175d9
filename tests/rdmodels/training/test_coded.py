from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from rdmodels.coding.bitstream import (
    compress,
    compress_batch,
    compress_both,
    compress_symbols,
    decompress_both,
    encode_images,
)
from rdmodels.coding.coding_model import CodingModel, load_coding_model
from rdmodels.coding.container import pack, read_header
from rdmodels.config import TrialConfig
from rdmodels.data.images import ImageSet
from rdmodels.data.splits import Splits
from rdmodels.errors import BitstreamError, EvaluationError
from rdmodels.results.images import VALIDATION_IMAGES, ImageResult, read_images, write_images
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
    assert coded.metrics.bpp_estimated == pytest.approx(estimated.metrics.bpp_estimated, rel=1e-5)
    assert estimated.metrics.bpp is None
    assert estimated.metrics.bpp_standalone is None
    header = sum(image.bits_header or 0 for image in coded.images)
    symbols = sum(image.bits_estimated for image in coded.images)
    written = sum(image.bits_written or 0 for image in coded.images)
    assert written - header == pytest.approx(symbols, rel=0.01, abs=16)
    assert coded.metrics.mse == pytest.approx(estimated.metrics.mse, rel=1e-3)


def test_an_image_pays_for_its_share_of_a_shared_stream(
    model: CodingModel, digits: Splits
) -> None:
    images = evaluate_coded(model, digits.test).images
    payloads = [(i.bits_written or 0) - (i.bits_header or 0) for i in images]
    ratios = [bits / image.bits_estimated for bits, image in zip(payloads, images, strict=True)]
    assert max(ratios) == pytest.approx(min(ratios))
    assert max(payloads) > 1.1 * min(payloads)
    assert len({image.bits_header for image in images}) == 1


def test_the_stand_alone_rate_is_that_of_a_stream_for_each(
    model: CodingModel, digits: Splits
) -> None:
    coded = evaluate_coded(model, digits.test)
    for image, pixels in list(zip(coded.images, digits.test.images, strict=True))[::7]:
        assert image.bits_standalone == 8 * len(compress(model, pixels))
    rates = [(image.bits_standalone or 0) / image.pixels for image in coded.images]
    assert coded.metrics.bpp_standalone == pytest.approx(sum(rates) / len(rates))
    assert coded.metrics.bpp is not None
    assert coded.metrics.bpp_standalone > 1.2 * coded.metrics.bpp


def test_a_stream_of_its_own_that_says_something_else_is_refused(
    model: CodingModel, digits: Splits
) -> None:
    symbols = encode_images(model, digits.test.stacked[:3])  # type: ignore[index]
    data, each = compress_both(model, symbols, (32, 32))
    assert torch.equal(decompress_both(model, data, each), symbols)
    assert data == compress_symbols(model, symbols, (32, 32))
    with pytest.raises(BitstreamError, match="decode to different symbols"):
        decompress_both(model, data, [each[1], each[0], each[2]])
    with pytest.raises(BitstreamError, match="need as many streams"):
        decompress_both(model, data, each[:2])
    longer = read_header(each[2]).payload_bytes + 1
    numbers = (1, 1, 32, 32, symbols.shape[1], 6, longer)
    payload = each[2][read_header(each[2]).header_bytes :] + b"\0"
    with pytest.raises(BitstreamError, match="coded symbols of image 2 are damaged"):
        decompress_both(model, data, [*each[:2], pack(model.model_id, numbers, payload)])


def test_images_up_to_64_by_64_share_and_larger_ones_do_not() -> None:
    for side, streams in ((64, 1), (65, 3)):
        images = ImageSet(np.zeros((3, 1, 64, side), np.uint8), ("a", "b", "c"))
        assert len(list(coded_module._streams(images))) == streams
    mixed = (np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 16), np.uint8))
    assert len(list(coded_module._streams(ImageSet(mixed, ("a", "b"))))) == 2


@pytest.mark.parametrize(("excess", "fails"), [(0.9995, False), (1.01, True)])
def test_more_bits_than_raw_coding_takes_are_refused(
    excess: float, fails: bool, small_config: TrialConfig
) -> None:
    symbols = 1_000_000
    raw = symbols * small_config.bits_per_raw_symbol
    image = ImageResult(
        "x",
        100,
        symbols,
        raw,
        0.1,
        10.0,
        None,
        None,
        None,
        bits_written=raw * excess + 800,
        bits_header=800,
        stream_images=1,
    )
    if fails:
        with pytest.raises(EvaluationError, match="more than raw coding takes"):
            coded_module._check_written([image], small_config)
    else:
        coded_module._check_written([image], small_config)


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
    validation = read_images(tmp_path / "model" / VALIDATION_IMAGES)
    assert [image.name for image in validation] == list(splits.validation.names)
    assert validation[0].bits_standalone == validation[0].bits_written
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
    honest = coded_module.decompress_both

    def flipping(*arguments: object) -> torch.Tensor:
        symbols = honest(*arguments)  # type: ignore[arg-type]
        symbols[0, 0, 0, 0] = 5 - symbols[0, 0, 0, 0]
        return symbols

    monkeypatch.setattr(coded_module, "decompress_both", flipping)
    with pytest.raises(EvaluationError, match=r"1 of .* symbols of .* came back changed"):
        evaluate_coded(model, digits.test)


def test_a_small_set_fits_streams_of_a_thousand(digits: Splits) -> None:
    stacked = digits.train.stacked
    assert stacked is not None
    many = ImageSet(stacked.repeat(6, axis=0), tuple(map(str, range(6 * len(stacked)))))
    sizes = [len(names) for names, _ in coded_module._streams(many)]
    assert sizes == [1000, 6 * len(stacked) - 1000]
