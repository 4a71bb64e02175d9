"""What a sweep would run, and about how long it would take: one model of each extreme, timed."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from rdmodels.coding.bitstream import compress_batch, decompress_batch
from rdmodels.coding.streams import streams
from rdmodels.config import TrialConfig
from rdmodels.data.batches import TrainingBatches
from rdmodels.data.splits import Splits
from rdmodels.model.codec import Codec
from rdmodels.training.coded import coding_model_of
from rdmodels.training.start import make_codec, make_optimiser
from rdmodels.training.step import step_options, train_step
from rdmodels.training.target import target_bits_per_symbol
from rdmodels.training.trim import trims_by_bytes
from sweep.spec.spec import SweepSpec

TIMED_STEPS = 3
EVALUATED_IMAGES = 16
CODED_SMALL = 200
VALUE_FIELDS = frozenset(
    {
        *("beta", "h_target", "target_bpp", "rate_ramp", "target_anneal", "seed"),
        *("learning_rate", "context_learning_rate", "learning_rate_decay", "compiled"),
    }
)
"""Fields that change no shape: extremes that differ in them alone take the same time. Steps are
timed uncompiled."""


@dataclass(frozen=True)
class Timing:
    """One extreme of the space: its size and speed."""

    config: TrialConfig
    parameters: int
    images_per_second: float
    seconds_per_epoch: float
    coding_seconds: float


@dataclass(frozen=True)
class Plan:
    """What a sweep would do. `seconds` is an estimate for all trials, without start-up."""

    trials: int
    at_once: int
    timings: list[Timing]
    seconds: float


def make_plan(spec: SweepSpec, splits: Splits, at_once: int) -> Plan:
    """Build one model of each extreme of the space, time a few steps, and add up.

    Args:
        at_once: trials that run at the same time.
    """
    shapes: dict[str, TrialConfig] = {}
    for config in spec.extremes():
        shapes.setdefault(config.model_dump_json(exclude=set(VALUE_FIELDS)), config)
    device = torch.device("cuda" if spec.resources.gpu and torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(spec.resources.cpu)
    try:
        timings = [time_trial(config, splits, device) for config in shapes.values()]
    finally:
        torch.set_num_threads(threads)
    per_trial = [t.seconds_per_epoch * t.config.epochs + t.coding_seconds for t in timings]
    seconds = sum(per_trial) / len(per_trial) * spec.num_trials / at_once
    return Plan(spec.num_trials, at_once, timings, seconds)


def time_trial(config: TrialConfig, splits: Splits, device: torch.device) -> Timing:
    """Time a few training steps and one evaluation of `config`."""
    codec = make_codec(config, splits.train).to(device)
    optimiser = make_optimiser(codec, config)
    batches = TrainingBatches(splits.train, config, device)
    steps = list(zip(range(TIMED_STEPS + 1), batches.epoch(0), strict=False))
    options = step_options(config)
    target = target_bits_per_symbol(config, splits.validation)
    values = (torch.tensor(config.beta, device=device), torch.tensor(target, device=device))
    train_step(codec, optimiser, steps[0][1], *values, options)
    timed = steps[1:] or steps
    _wait(device)
    started = time.perf_counter()
    for _, x in timed:
        train_step(codec, optimiser, x, *values, options)
    _wait(device)
    images_per_second = sum(len(x) for _, x in timed) / (time.perf_counter() - started)
    sample = splits.validation.take(range(min(EVALUATED_IMAGES, len(splits.validation))))
    started = time.perf_counter()
    # Not evaluate(): so short a training may not give figures that pass as data points.
    with torch.no_grad():
        for x in sample.batches(config.batch_size, device):
            codec(x)
    _wait(device)
    evaluation = (time.perf_counter() - started) / len(sample) * len(splits.validation)
    return Timing(
        config,
        sum(parameter.numel() for parameter in codec.parameters()),
        images_per_second,
        batches.images_per_epoch / images_per_second + evaluation,
        _coding_seconds(codec, config, splits),
    )


def _coding_seconds(codec: Codec, config: TrialConfig, splits: Splits) -> float:
    """What coding takes at the end of a trial, from a sample of its validation images.

    Validation and test images are written and decoded back; the trim writes the former once more.
    """
    images = splits.validation
    count = min(CODED_SMALL, len(next(streams(images))))
    sample = images.take(range(count))
    calibration = splits.train.take(range(min(count, len(splits.train))))
    model = coding_model_of(codec.eval(), calibration, config)
    pixels = np.stack(list(sample.images))
    started = time.perf_counter()
    data = compress_batch(model, pixels)
    writing = (time.perf_counter() - started) / len(sample)
    decompress_batch(model, data)
    both = (time.perf_counter() - started) / len(sample)
    codec.train()
    trimmed = trims_by_bytes(config) * len(splits.validation)
    return both * (len(splits.validation) + len(splits.test)) + writing * trimmed


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
