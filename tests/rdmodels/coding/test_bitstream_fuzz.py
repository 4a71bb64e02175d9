"""A decoder fed with mutated streams: a clear error or an image, and nothing else."""

import zlib
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rdmodels.coding import container
from rdmodels.coding.bitstream import compress, compress_batch, decompress, decompress_batch
from rdmodels.coding.coding_model import CodingModel, make_coding_model
from rdmodels.coding.container import read_header
from rdmodels.coding.conversion import convert_context
from rdmodels.coding.entropy import decode_symbols, encode_symbols, in_order
from rdmodels.coding.fronts import LatentShape
from rdmodels.config import make_trial
from rdmodels.errors import BitstreamError
from rdmodels.model.codec import Codec


class Corpus(NamedTuple):
    """A model and valid streams of it: one pixel, small, odd, several images, another model's."""

    model: CodingModel
    streams: tuple[bytes, ...]


def coding_model(seed: int) -> CodingModel:
    config = make_trial({"width": 4, "groups": 1, "num_latent_channels": 3, "context_features": 4})
    torch.manual_seed(seed)
    codec = Codec(config, [0.5], [0.25]).eval()
    torch.nn.init.normal_(codec.context.logits.weight, std=0.5)
    with torch.no_grad():
        symbols = codec.encode(torch.rand(8, 1, 32, 32))[0].symbols
    return make_coding_model(codec, convert_context(codec, symbols), config)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    model, other = coding_model(0), coding_model(1)
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (28, 28), (37, 50)]
    images = [rng.integers(0, 256, (1, *size), dtype=np.uint8) for size in sizes]
    several = rng.integers(0, 256, (5, 1, 16, 16), dtype=np.uint8)
    streams = [compress(model, image) for image in images]
    return Corpus(model, (*streams, compress_batch(model, several), compress(other, images[1])))


NUMBERS = st.one_of(st.integers(0, 70), st.integers(0, 2**18), st.integers(0, 2**36))


def replaced(draw: st.DrawFn, data: bytes) -> bytes:
    start = draw(st.integers(0, len(data)))
    stop = draw(st.integers(start, min(len(data), start + 8)))
    return data[:start] + draw(st.binary(max_size=8)) + data[stop:]


def flipped(draw: st.DrawFn, data: bytes) -> bytes:
    out = bytearray(data)
    for bit in draw(st.lists(st.integers(0, 8 * len(data) - 1), max_size=4)):
        out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def cut(draw: st.DrawFn, data: bytes) -> bytes:
    return data[: draw(st.integers(0, len(data)))]


def spliced(draw: st.DrawFn, data: bytes, other: bytes) -> bytes:
    return data[: draw(st.integers(0, len(data)))] + other[draw(st.integers(0, len(other))) :]


def sealed(prefix: bytes, payload: bytes) -> bytes:
    checksum = zlib.crc32(payload, zlib.crc32(prefix)).to_bytes(4, "little")
    return prefix + checksum + payload


def rewritten(draw: st.DrawFn, data: bytes, other: bytes) -> bytes:
    """A stream with some numbers or the payload changed, whose lengths and checksum fit."""
    header = read_header(data)
    payload = data[header.header_bytes :]
    numbers = list(header[1:7])
    for index in draw(st.lists(st.integers(0, 5), max_size=2)):
        numbers[index] = draw(NUMBERS)
    match draw(st.integers(0, 3)):
        case 0:
            payload = flipped(draw, payload) if payload else payload
        case 1:
            payload = replaced(draw, payload)
        case 2:
            payload = spliced(draw, payload, other[read_header(other).header_bytes :])
    varints = b"".join(map(container._varint, (*numbers, len(payload))))
    return sealed(data[:8] + varints, payload)


@st.composite
def mutations(draw: st.DrawFn, streams: tuple[bytes, ...]) -> tuple[bytes, bool]:
    """A mutated stream, and whether its checksum was made to fit."""
    data, other = draw(st.sampled_from(streams)), draw(st.sampled_from(streams))
    if draw(st.booleans()):
        return rewritten(draw, data, other), True
    for _ in range(draw(st.integers(1, 3))):
        match draw(st.integers(0, 3)) if data else 3:
            case 0:
                data = flipped(draw, data)
            case 1:
                data = replaced(draw, data)
            case 2:
                data = cut(draw, data)
            case _:
                data = spliced(draw, data, other)
    return data, False


def check(corpus: Corpus, data: bytes, resealed: bool) -> None:
    try:
        images = decompress_batch(corpus.model, data)
    except BitstreamError:
        with pytest.raises(BitstreamError):
            decompress(corpus.model, data)
        return
    header = read_header(data)
    assert images.dtype == np.uint8
    assert images.shape == (header.images, header.channels, header.height, header.width)
    # What is accepted is what was written, unless someone has forged the checksum as well.
    assert resealed or data in corpus.streams


def fuzz(corpus: Corpus, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations(corpus.streams))
    def run(mutation: tuple[bytes, bool]) -> None:
        check(corpus, *mutation)

    run()


def test_mutated_streams_give_an_error_or_an_image(corpus: Corpus) -> None:
    fuzz(corpus, 3000)


@pytest.mark.slow
def test_tens_of_thousands_of_mutated_streams_give_an_error_or_an_image(corpus: Corpus) -> None:
    fuzz(corpus, 40_000)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=200))
def test_arbitrary_payloads_are_refused_or_are_what_their_image_is_written_as(
    corpus: Corpus, payload: bytes
) -> None:
    numbers = (1, 1, 28, 28, 3, 6, len(payload))
    prefix = corpus.streams[1][:8] + b"".join(map(container._varint, numbers))
    try:
        decompress(corpus.model, sealed(prefix, payload))
    except BitstreamError:
        return
    integer = corpus.model.integer_context
    symbols = decode_symbols(integer, LatentShape(1, 3, 4, 4), payload)
    assert encode_symbols(in_order(integer, symbols)) == payload
