"""Evaluation by bytes: every image is written to a stream, decoded back and compared."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from rdmodels.coding.bitstream import (
    compress_batch,
    compress_both,
    decode_images,
    decompress_both,
    encode_images,
)
from rdmodels.coding.coding_model import CodingModel, make_coding_model
from rdmodels.coding.container import read_header
from rdmodels.coding.conversion import calibration_symbols, convert_context
from rdmodels.coding.streams import streams
from rdmodels.config import TrialConfig
from rdmodels.data.images import ImageSet, Pixels, to_float
from rdmodels.errors import EvaluationError
from rdmodels.model.codec import Codec
from rdmodels.results.images import ImageResult, LatentUse, summarise
from rdmodels.training.evaluation import Evaluation, check_figures, evaluate, image_results

T = TypeVar("T")


@torch.no_grad()
def evaluate_coded(model: CodingModel, images: ImageSet) -> Evaluation:
    """Rate in written bytes, and quality of what was decoded from them.

    Every image is compressed to a stream and decompressed; its quality is that of the decoded
    pixels. Small images share a stream, and are also written to one each, whose rate stands beside
    the shared one's. The estimate stands beside the written bits.

    Raises:
        EvaluationError: as `evaluate`, or if decoded symbols differ from the encoded ones.
    """
    estimated = evaluate(model.codec, images, model.config, structural=False)
    results: list[ImageResult] = []
    for names, pixels in _streams(images):
        bits = [image.bits_estimated for image in estimated.images[len(results) :][: len(names)]]
        results += _code(model, names, pixels, bits)
    found = estimated.metrics
    latent = LatentUse(found.importance, found.centers_used, found.symbol_entropy)
    means = summarise(results, latent, found.rate_over_target, found.loss)
    if model.config.target_bpp is not None:
        assert means.bpp is not None
        ratio = means.bpp / model.config.target_bpp
        means = dataclasses.replace(means, rate_over_target=ratio)
    check_figures(means, model.config)
    _check_written(results, model.config)
    return Evaluation(results, means)


def coding_model_of(codec: Codec, train: ImageSet, config: TrialConfig) -> CodingModel:
    """`codec`, in evaluation mode from here on, with its context model converted to integers."""
    integer = convert_context(codec, calibration_symbols(codec, train))
    return make_coding_model(codec, integer, config)


def written_bpp(model: CodingModel, images: ImageSet) -> float:
    """Bits per pixel of `images` in written bytes, headers included, averaged over images."""
    rates = [
        len(pixels) * 8.0 * len(compress_batch(model, pixels)) / pixels[:, 0].size
        for _, pixels in _streams(images)
    ]
    return math.fsum(rates) / len(images)


def _check_written(results: list[ImageResult], config: TrialConfig) -> None:
    """Guard the bytes as `check_figures` does the estimate: a bad conversion would show here."""
    payload = sum((i.bits_written or 0.0) - (i.bits_header or 0.0) for i in results)
    symbols = sum(image.symbols for image in results)
    # A message ends on a whole byte, and the last symbols take a few bits to tell apart.
    streams = sum(1 / (image.stream_images or 1) for image in results)
    if payload > symbols * config.bits_per_raw_symbol * (1 + 1e-3) + 32 * streams:
        raise EvaluationError(
            f"{symbols} symbols were written as {payload:.0f} bits, more than raw coding takes:"
            " the integer context model does not fit them"
        )


def _streams(images: ImageSet) -> Iterator[tuple[tuple[str, ...], Pixels]]:
    """Names and pixels (N, channels, H, W) of the images that share a stream."""
    for stream in streams(images):
        part = slice(stream.start, stream.stop)
        yield images.names[part], np.stack(list(images.images[part]))


def _code(
    model: CodingModel, names: tuple[str, ...], pixels: Pixels, bits: list[float]
) -> list[ImageResult]:
    size = (pixels.shape[-2], pixels.shape[-1])
    count = len(names)
    symbols, analysis = _timed(lambda: encode_images(model, pixels))
    # A stream for each image beside the shared one, with the same passes of the network.
    (data, each), encoding = _timed(lambda: compress_both(model, symbols, size))
    decoded, decoding = _timed(lambda: decompress_both(model, data, each))
    x_hat, synthesis = _timed(lambda: decode_images(model, decoded, size))
    _check_equal(decoded, symbols, f"{names[0]} …")
    header = 8.0 * read_header(data).header_bytes
    payload, whole = 8.0 * len(data) - header, math.fsum(bits)
    figures = image_results(
        names,
        to_float(torch.from_numpy(pixels)),
        to_float(torch.from_numpy(x_hat)),
        torch.tensor(bits, dtype=torch.float64).reshape(-1, 1, 1, 1),
    )
    standalone = [8.0 * len(stream) for stream in each]
    return [
        dataclasses.replace(
            figure,
            symbols=symbols[0].numel(),
            bits_written=header / count + payload * (own / whole if whole else 1 / count),
            bits_header=header / count,
            bits_standalone=alone,
            stream_images=count,
            encode_seconds=(analysis + encoding) / count,
            decode_seconds=(decoding + synthesis) / count,
            decoded_equal=True,
        )
        for figure, own, alone in zip(figures, bits, standalone, strict=True)
    ]


def _check_equal(decoded: Tensor, symbols: Tensor, what: str) -> None:
    if not torch.equal(decoded, symbols):
        differing = int((decoded != symbols).sum())
        raise EvaluationError(
            f"{differing} of {symbols.numel()} symbols of {what} came back changed: the"
            " stream does not decode to what was encoded"
        )


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    value = call()
    return value, time.perf_counter() - started
