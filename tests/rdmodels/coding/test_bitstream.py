import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rdmodels.coding import container
from rdmodels.coding.bitstream import (
    compress,
    compress_batch,
    decode_images,
    decompress,
    decompress_batch,
    decompress_symbols,
    encode_images,
)
from rdmodels.coding.coding_model import CodingModel, load_coding_model, make_coding_model
from rdmodels.coding.container import read_header
from rdmodels.coding.conversion import calibration_symbols, convert_context
from rdmodels.coding.entropy import decode_symbols, encode_symbols, in_order
from rdmodels.coding.fronts import LatentShape
from rdmodels.coding.integer_context import save_integer_context
from rdmodels.coding.range_coder import RangeDecoder, RangeEncoder, _coder_errors
from rdmodels.config import TrialConfig, make_trial
from rdmodels.data.images import to_float
from rdmodels.data.splits import Splits, load_splits
from rdmodels.errors import BitstreamError, ConfigError
from rdmodels.metrics import to_uint8
from rdmodels.model.codec import Codec
from rdmodels.model.storage import load_codec
from rdmodels.training.fit import fit

Pixels = NDArray[np.uint8]

TRIAL = {
    "width": 8,
    "groups": 1,
    "num_latent_channels": 6,
    "context_features": 8,
    "epochs": 3,
    "batch_size": 25,
    "beta": 0.03,
    "h_target": 0.5,
    "train_images": 400,
    "test_images": 60,
}


def convert(codec: Codec, config: TrialConfig, images: Pixels) -> CodingModel:
    with torch.no_grad():
        symbols = codec.encode(to_float(torch.from_numpy(images)))[0].symbols
    return make_coding_model(codec, convert_context(codec, symbols), config)


@pytest.fixture(scope="module")
def config() -> TrialConfig:
    return make_trial(TRIAL)


@pytest.fixture(scope="module")
def digits(config: TrialConfig) -> Splits:
    return load_splits(config)


@pytest.fixture(scope="module")
def directory(
    config: TrialConfig, digits: Splits, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A small codec trained on digits, with its integer context model."""
    directory = tmp_path_factory.mktemp("coding")
    list(fit(config, digits, directory))
    codec = load_codec(directory)[0]
    symbols = calibration_symbols(codec, digits.train)
    save_integer_context(directory, convert_context(codec, symbols))
    return directory


@pytest.fixture(scope="module")
def model(directory: Path) -> CodingModel:
    return load_coding_model(directory)


@pytest.fixture(scope="module")
def rgb_model() -> CodingModel:
    """Colour, untrained: every symbol occurs, and the context model has opinions about them."""
    config = make_trial({**TRIAL, "num_centers": 5})
    torch.manual_seed(0)
    codec = Codec(config, [0.5, 0.45, 0.4], [0.25, 0.25, 0.25]).eval()
    torch.nn.init.normal_(codec.context.logits.weight, std=0.1)
    return convert(codec, config, np.stack([photo(64, 64, seed) for seed in range(4)]))


def photo(height: int, width: int, seed: int = 0) -> Pixels:
    """A smooth RGB picture (3, height, width) with some noise."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:height, :width] / 16.0
    phases = rng.uniform(0, 6.3, (3, 2, 1, 1))
    waves = np.sin(row + phases[:, 0]) * np.cos(0.7 * column + phases[:, 1])
    noisy = 128 + 90 * waves + rng.normal(0, 8, (3, height, width))
    return noisy.clip(0, 255).astype(np.uint8)


def rounded(model: CodingModel, image: Pixels) -> Pixels:
    """decode(encode(x)) in 8 bits, without any stream."""
    with torch.no_grad():
        x = to_float(torch.from_numpy(image[None]))
        x_hat = model.codec.decode(model.codec.encode(x)[0].y_hat, image.shape[-2:])
    found: Pixels = to_uint8(x_hat)[0].numpy()
    return found


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def stacked(digits: Splits) -> Pixels:
    assert isinstance(digits.test.images, np.ndarray)
    return digits.test.images


def test_digits_come_back_as_the_codec_without_a_stream_has_them(
    model: CodingModel, digits: Splits
) -> None:
    for image in stacked(digits)[:20]:
        assert np.array_equal(decompress(model, compress(model, image)), rounded(model, image))


def test_images_of_28_px_come_back(model: CodingModel, digits: Splits) -> None:
    for image in stacked(digits)[:10, :, 2:30, 2:30]:
        data = compress(model, image)
        assert np.array_equal(decompress(model, data), rounded(model, image))
        assert read_header(data).header_bytes <= 20


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 40), (37, 1), (7, 9), (8, 8), (33, 70), (161, 243), (5, 300)]
)
def test_photographs_of_any_size_come_back(rgb_model: CodingModel, size: tuple[int, int]) -> None:
    image = photo(*size)
    found = decompress(rgb_model, compress(rgb_model, image))
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    assert np.array_equal(found, rounded(rgb_model, image))


def test_read_only_and_strided_images_are_images(model: CodingModel, digits: Splits) -> None:
    image = stacked(digits)[0]
    mirrored = image[:, ::-1]
    mirrored.flags.writeable = False
    assert compress(model, mirrored) == compress(model, mirrored.copy())


def test_symbols_come_back_under_every_thread_count(model: CodingModel, digits: Splits) -> None:
    symbols = encode_images(model, stacked(digits))
    messages = []
    for count in (1, 2):
        with threads(count):
            messages.append(encode_symbols(in_order(model.integer_context, symbols)))
    assert messages[0] == messages[1]
    for count in (1, 2):
        with threads(count):
            found = decode_symbols(model.integer_context, LatentShape(*symbols.shape), messages[0])
            assert torch.equal(found, symbols)


def test_a_batch_holds_the_symbols_of_its_images(model: CodingModel, digits: Splits) -> None:
    images = stacked(digits)
    for count in (1, 2, 7, len(images)):
        data = compress_batch(model, images[:count])
        symbols, size = decompress_symbols(model, data)
        assert torch.equal(symbols, encode_images(model, images[:count]))
        assert size == images.shape[-2:]
        found = decompress_batch(model, data)
        assert np.array_equal(found, decode_images(model, symbols, size))
        # The float decoder may differ in a last bit between batch sizes, so by one 8-bit level.
        alone = np.stack([rounded(model, image) for image in images[:count]])
        assert np.abs(found.astype(int) - alone).max() <= 1


def test_symbols_in_several_groups_come_back(
    model: CodingModel, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rdmodels.coding.fronts.GROUP_SYMBOLS", 4 * 7)
    monkeypatch.setattr("rdmodels.coding.entropy.CHUNK_SYMBOLS", 50)
    symbols = encode_images(model, stacked(digits))
    message = encode_symbols(in_order(model.integer_context, symbols))
    found = decode_symbols(model.integer_context, LatentShape(*symbols.shape), message)
    assert torch.equal(found, symbols)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)),
    st.randoms(use_true_random=False),
)
def test_any_symbols_come_back(
    model: CodingModel, shape: tuple[int, int, int, int], random: object
) -> None:
    seed = random.getrandbits(32)  # type: ignore[attr-defined]
    symbols = torch.randint(0, 6, shape, generator=torch.Generator().manual_seed(seed))
    message = encode_symbols(in_order(model.integer_context, symbols))
    found = decode_symbols(model.integer_context, LatentShape(*shape), message)
    assert torch.equal(found, symbols)


def test_written_bits_are_the_estimated_ones(model: CodingModel, digits: Splits) -> None:
    images = stacked(digits)
    symbols = encode_images(model, images)
    with torch.no_grad():
        estimated = float(model.codec.symbol_bits(symbols).double().sum())
    header = read_header(compress_batch(model, images))
    assert header.payload_bytes * 8 <= 1.005 * estimated + 8
    assert header.payload_bytes * 8 >= 0.99 * estimated
    assert header.header_bytes <= 24


def random_pmfs(rng: np.random.Generator, count: int, skew: float) -> NDArray[np.float64]:
    shares = rng.dirichlet(np.full(6, skew), size=count)
    pmfs = 1 + np.floor(shares * (2**16 - 6))
    pmfs[:, 0] += 2**16 - pmfs.sum(1)
    return pmfs


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from([0.02, 0.3, 3.0]))
def test_a_message_is_at_most_a_byte_longer_than_its_information(
    seed: int, count: int, skew: float
) -> None:
    rng = np.random.default_rng(seed)
    pmfs = random_pmfs(rng, count, skew)
    symbols = np.array([rng.choice(6, p=pmf / 2**16) for pmf in pmfs], np.int32)
    encoder = RangeEncoder()
    encoder.put(symbols[: count // 2], pmfs[: count // 2])
    encoder.put(symbols[count // 2 :], pmfs[count // 2 :])
    message = encoder.finish()
    information = -np.log2(pmfs[np.arange(count), symbols] / 2**16).sum() / 8
    assert len(message) <= information + 1.1
    decoder = RangeDecoder(message)
    assert np.array_equal(decoder.get(pmfs[:1]), symbols[:1])
    assert np.array_equal(decoder.get(pmfs[1:]), symbols[1:])


def test_a_panic_of_the_coder_is_a_damaged_stream_and_an_interrupt_is_not() -> None:
    class PanicException(BaseException):
        pass

    with pytest.raises(BitstreamError, match="out of range"), _coder_errors():
        raise PanicException("out of range")
    with pytest.raises(KeyboardInterrupt), _coder_errors():
        raise KeyboardInterrupt


def test_the_likeliest_symbols_cost_no_less_than_the_least_bytes() -> None:
    for centers in (2, 6, 64):
        pmfs = np.ones((400_000, centers))
        pmfs[:, 0] = 2**16 - (centers - 1)
        encoder = RangeEncoder()
        encoder.put(np.zeros(len(pmfs), np.int32), pmfs)
        least = container.least_bytes(centers, len(pmfs))
        assert least <= len(encoder.finish()) <= least * 1.05 + 2


def test_a_model_from_the_same_directory_reads_what_another_wrote(
    directory: Path, model: CodingModel, digits: Splits
) -> None:
    again = load_coding_model(directory)
    assert again.model_id == model.model_id
    data = compress(model, stacked(digits)[0])
    assert np.array_equal(decompress(again, data), decompress(model, data))


def resealed(data: bytes, header_bytes: int) -> bytes:
    """`data` with a checksum that fits whatever has been changed."""
    start = header_bytes - container.CHECKSUM_BYTES
    checksum = zlib.crc32(data[header_bytes:], zlib.crc32(data[:start]))
    return data[:start] + checksum.to_bytes(4, "little") + data[header_bytes:]


@pytest.fixture(scope="module")
def stream(model: CodingModel, digits: Splits) -> bytes:
    return compress(model, stacked(digits)[0, :, 2:30, 2:30])


def test_every_truncation_and_extension_is_refused(model: CodingModel, stream: bytes) -> None:
    for length in range(len(stream)):
        with pytest.raises(BitstreamError):
            decompress(model, stream[:length])
    with pytest.raises(BitstreamError, match="its header says"):
        decompress(model, stream + b"\0")


def test_every_flipped_bit_is_refused(model: CodingModel, stream: bytes) -> None:
    for bit in range(8 * len(stream)):
        flipped = bytearray(stream)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            decompress(model, bytes(flipped))


def test_a_resealed_payload_that_no_encoder_writes_is_refused(
    model: CodingModel, stream: bytes
) -> None:
    header = read_header(stream)
    refused = 0
    for value in range(256):
        forged = resealed(stream[:-1] + bytes([value]), header.header_bytes)
        try:
            decompress(model, forged)
        except BitstreamError:
            refused += 1
            continue
        symbols = decode_symbols(
            model.integer_context, header.latent, forged[header.header_bytes :]
        )
        written = encode_symbols(in_order(model.integer_context, symbols))
        assert written == forged[header.header_bytes :]
    assert refused > 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a stream of this codec"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "not a stream of this codec"),
        (b"RDI", "version none"),
        (b"RDI\x09" + bytes(60), "version 9, this program reads 1"),
        (b"RDI\x01", "ends within its header"),
        (b"RDI\x01abcd" + b"\xff" * 60, "header is damaged"),
        (b"RDI\x01abcd\x80\x00" + bytes(60), "header is damaged"),
    ],
)
def test_what_is_no_stream_is_refused(model: CodingModel, data: bytes, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        decompress(model, data)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 1, 28, 28, 6, 6), "header is damaged"),
        ((1, 4, 28, 28, 6, 6), "header is damaged"),
        ((1, 1, 0, 28, 6, 6), "sides are up to"),
        ((1, 1, 28, 65537, 6, 6), "sides are up to"),
        ((1, 1, 60000, 60000, 6, 6), "pixels"),
        ((2**34, 1, 28, 28, 6, 6), "pixels"),
        ((1, 1, 8000, 8000, 6, 6), r"symbols, which take \d+ at least"),
        ((1, 1, 28, 28, 6, 7), "its model"),
        ((1, 3, 28, 28, 6, 6), "its model"),
        ((1, 1, 28, 28, 7, 6), "its model"),
        ((3, 1, 28, 28, 6, 6), "use decompress_batch"),
    ],
)
def test_a_resealed_header_that_lies_is_refused(
    model: CodingModel, stream: bytes, numbers: tuple[int, ...], message: str
) -> None:
    header = read_header(stream)
    payload = stream[header.header_bytes :]
    varints = b"".join(map(container._varint, (*numbers, len(payload))))
    prefix = stream[:8] + varints
    forged = resealed(prefix + bytes(4) + payload, len(prefix) + 4)
    with pytest.raises(BitstreamError, match=message):
        decompress(model, forged)


def test_another_model_refuses_the_stream(
    model: CodingModel, config: TrialConfig, stream: bytes
) -> None:
    codec = Codec(config, [0.5], [0.25])
    codec.load_state_dict(model.codec.state_dict())
    with torch.no_grad():
        codec.quantizer.centers[0] += 1e-3
    other = make_coding_model(codec, model.integer_context, config)
    with pytest.raises(BitstreamError, match=f"written by model {model.model_id.hex()}"):
        decompress(other, stream)


def test_more_pixels_than_the_caller_wants_are_refused(model: CodingModel, stream: bytes) -> None:
    assert decompress(model, stream, max_pixels=28 * 28).shape == (1, 28, 28)
    with pytest.raises(BitstreamError, match="784 pixels, the limit is 783"):
        decompress(model, stream, max_pixels=783)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((28, 28), np.uint8), "one image as a uint8 array"),
        (np.zeros((1, 1, 28, 28), np.uint8), "compress_batch"),
        ([[1, 2], [3, 4]], "got list"),
        (np.zeros((1, 28, 28)), "got float64 of shape"),
        (np.zeros((1, 0, 28), np.uint8), "must not be empty"),
        (np.zeros((3, 28, 28), np.uint8), r"codes grey images, got 3 channel"),
        (np.broadcast_to(np.uint8(0), (1, 1, 70000)), "65536 pixels a side"),
        (np.broadcast_to(np.uint8(0), (1, 60000, 60000)), "split them"),
    ],
)
def test_what_cannot_be_compressed_is_named(
    model: CodingModel, image: Pixels, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compress(model, image)


def test_an_integer_context_model_of_other_sizes_is_refused(
    model: CodingModel, rgb_model: CodingModel, config: TrialConfig
) -> None:
    with pytest.raises(ConfigError, match="convert it again"):
        make_coding_model(model.codec, rgb_model.integer_context, config)


def test_a_directory_without_an_integer_context_model_is_refused(
    directory: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    with pytest.raises(ConfigError, match=r"integer_context.*is not there"):
        load_coding_model(tmp_path)
