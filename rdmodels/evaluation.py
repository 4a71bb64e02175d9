"""Evaluation of a codec on images it was not trained on: by estimate, or by bytes."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from rdmodels import metrics
from rdmodels.bitstream import (
    CodingModel,
    compress_symbols,
    decode_images,
    decompress_symbols,
    encode_images,
    read_header,
)
from rdmodels.codec import Codec, CodecOutput
from rdmodels.config import TrialConfig
from rdmodels.data import ImageSet, Pixels, to_float
from rdmodels.loss import rate_distortion_loss
from rdmodels.results import ImageResult, Metrics, summarise

STREAM_PIXELS = 64 * 64
"""Images of one size up to this many pixels share streams: a header each would be most of one."""
STREAM_IMAGES = 1000

T = TypeVar("T")


class EvaluationError(RuntimeError):
    """An evaluation whose figures cannot be data points."""


class Evaluation(NamedTuple):
    """Figures of each image, in order, and their means."""

    images: list[ImageResult]
    metrics: Metrics


@torch.no_grad()
def evaluate(codec: Codec, images: ImageSet, config: TrialConfig) -> Evaluation:
    """Estimated rate, and quality, of `images`, whole, on the codec's device.

    Raises:
        EvaluationError: if a figure is not finite, or the rate exceeds log2(L) bits per symbol,
            which is what the symbols cost without any model: such a figure speaks of a broken
            evaluation, not of the codec.
    """
    was_training = codec.training
    codec.eval()
    results: list[ImageResult] = []
    loss = 0.0
    for x in images.batches(config.batch_size, codec.mean.device):
        out: CodecOutput = codec(x)
        loss += float(rate_distortion_loss(x, out, config).total) * len(x)
        names = images.names[len(results) : len(results) + len(x)]
        results += _image_results(names, x, metrics.round_to_8_bits(out.x_hat), out.bits)
    codec.train(was_training)
    means = summarise(results, loss / len(images))
    _check(means, config)
    return Evaluation(results, means)


@torch.no_grad()
def evaluate_coded(model: CodingModel, images: ImageSet) -> Evaluation:
    """Rate in written bytes, and quality of what was decoded from them.

    Every image is compressed to a stream and decompressed; its quality is that of the decoded
    pixels. The estimate stands beside the written bits.

    Raises:
        EvaluationError: as `evaluate`, or if decoded symbols differ from the encoded ones.
    """
    estimated = evaluate(model.codec, images, model.config)
    results: list[ImageResult] = []
    for names, pixels in _streams(images):
        bits = [image.bits_estimated for image in estimated.images[len(results) :][: len(names)]]
        results += _code(model, names, pixels, bits)
    means = summarise(results, estimated.metrics.loss)
    _check(means, model.config)
    _check_written(results, model.config)
    return Evaluation(results, means)


def _check_written(results: list[ImageResult], config: TrialConfig) -> None:
    """Guard the bytes as `_check` does the estimate: a bad conversion would show here."""
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
    stacked = images.stacked
    small = stacked is not None and stacked.shape[-2] * stacked.shape[-1] <= STREAM_PIXELS
    step = STREAM_IMAGES if small else 1
    for start in range(0, len(images), step):
        part = images.images[start : start + step]
        yield images.names[start : start + step], np.stack(list(part))


def _code(
    model: CodingModel, names: tuple[str, ...], pixels: Pixels, bits: list[float]
) -> list[ImageResult]:
    size = (pixels.shape[-2], pixels.shape[-1])
    symbols, analysis = _timed(lambda: encode_images(model, pixels))
    data, encoding = _timed(lambda: compress_symbols(model, symbols, size))
    (decoded, _), decoding = _timed(lambda: decompress_symbols(model, data))
    x_hat, synthesis = _timed(lambda: decode_images(model, decoded, size))
    if not torch.equal(decoded, symbols):
        differing = int((decoded != symbols).sum())
        raise EvaluationError(
            f"{differing} of {symbols.numel()} symbols of {names[0]} … came back changed: the"
            " stream does not decode to what was encoded"
        )
    header = 8.0 * read_header(data).header_bytes
    payload, whole = 8.0 * len(data) - header, math.fsum(bits)
    count = len(names)
    figures = _image_results(
        names,
        to_float(torch.from_numpy(pixels)),
        to_float(torch.from_numpy(x_hat)),
        torch.tensor(bits, dtype=torch.float64).reshape(-1, 1, 1, 1),
    )
    return [
        dataclasses.replace(
            figure,
            symbols=symbols[0].numel(),
            bits_written=header / count + payload * (own / whole if whole else 1 / count),
            bits_header=header / count,
            stream_images=count,
            encode_seconds=(analysis + encoding) / count,
            decode_seconds=(decoding + synthesis) / count,
            decoded_equal=True,
        )
        for figure, own in zip(figures, bits, strict=True)
    ]


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    value = call()
    return value, time.perf_counter() - started


def _image_results(
    names: tuple[str, ...], x: Tensor, x_hat: Tensor, bits: Tensor
) -> list[ImageResult]:
    """Figures of a batch; `bits` are (B, ...), summed over all but the first axis."""
    mse = metrics.mse(x_hat.double(), x.double()).tolist()
    missing: list[None] = [None] * len(x)
    ssim = metrics.ssim(x_hat, x)
    big = metrics.has_ms_ssim(x.shape[-2], x.shape[-1])
    columns = zip(
        names,
        bits.double().sum(dim=(1, 2, 3)).tolist(),
        mse,
        missing if ssim is None else ssim.tolist(),
        metrics.ms_ssim(x_hat, x).tolist() if big else missing,
        strict=True,
    )
    return [
        ImageResult(
            name=name,
            pixels=x.shape[-2] * x.shape[-1],
            symbols=bits[0].numel(),
            bits_estimated=image_bits,
            mse=image_mse,
            psnr_db=metrics.psnr_db(image_mse),
            ssim=image_ssim,
            ms_ssim=image_ms_ssim,
        )
        for name, image_bits, image_mse, image_ssim, image_ms_ssim in columns
    ]


def _check(means: Metrics, config: TrialConfig) -> None:
    for name in ("bpp", "mse", "loss"):
        value = getattr(means, name)
        if not math.isfinite(value):
            raise EvaluationError(f"evaluation gave {name} = {value}: the training has diverged")
    # Relative slack for float32 sums: an untrained context model costs exactly log2(L).
    if means.bits_per_symbol > config.bits_per_raw_symbol * (1 + 1e-5):
        raise EvaluationError(
            f"evaluation gave {means.bits_per_symbol:.3f} bits per symbol, more than the"
            f" log2({config.num_centers}) = {config.bits_per_raw_symbol:.3f} of raw coding: the"
            " context model does not fit these images; train longer or lower the learning rates"
        )


def write_images(path: Path, images: list[ImageResult]) -> None:
    """Write the per-image table as Parquet, a column for each field of `ImageResult`."""
    pq.write_table(pa.Table.from_pylist([dataclasses.asdict(image) for image in images]), path)
