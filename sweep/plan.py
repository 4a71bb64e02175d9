"""What a sweep would run, and about how long it would take: one model of each extreme, timed."""

import time
from dataclasses import dataclass

import torch

from rdmodels.config import TrialConfig
from rdmodels.data import Splits, TrainingBatches
from rdmodels.evaluation import evaluate
from rdmodels.training import make_codec, make_optimiser, train_step
from sweep.spec import SweepSpec

TIMED_STEPS = 3
EVALUATED_IMAGES = 16
VALUE_FIELDS = frozenset({"beta", "h_target", "learning_rate", "context_learning_rate", "seed"})
"""Fields that change no shape: extremes that differ in them alone take the same time."""


@dataclass(frozen=True)
class Timing:
    """One extreme of the space: its size and speed."""

    config: TrialConfig
    parameters: int
    images_per_second: float
    seconds_per_epoch: float


@dataclass(frozen=True)
class Plan:
    """What a sweep would do. `seconds` is an estimate for all trials, without start-up."""

    trials: int
    at_once: int
    timings: list[Timing]
    seconds: float


def make_plan(spec: SweepSpec, splits: Splits) -> Plan:
    """Build one model of each extreme of the space, time a few steps, and add up."""
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
    per_trial = [timing.seconds_per_epoch * timing.config.epochs for timing in timings]
    seconds = sum(per_trial) / len(per_trial) * spec.num_trials / spec.resources.concurrent
    return Plan(spec.num_trials, spec.resources.concurrent, timings, seconds)


def time_trial(config: TrialConfig, splits: Splits, device: torch.device) -> Timing:
    """Time a few training steps and one evaluation of `config`."""
    codec = make_codec(config, splits.train).to(device)
    optimiser = make_optimiser(codec, config)
    batches = TrainingBatches(splits.train, config, device)
    steps = list(zip(range(TIMED_STEPS + 1), batches.epoch(0), strict=False))
    train_step(codec, optimiser, steps[0][1], config)
    timed = steps[1:] or steps
    _wait(device)
    started = time.perf_counter()
    for _, x in timed:
        train_step(codec, optimiser, x, config)
    _wait(device)
    images_per_second = sum(len(x) for _, x in timed) / (time.perf_counter() - started)
    sample = splits.validation.take(range(min(EVALUATED_IMAGES, len(splits.validation))))
    started = time.perf_counter()
    evaluate(codec, sample, config)
    evaluation = (time.perf_counter() - started) / len(sample) * len(splits.validation)
    return Timing(
        config,
        sum(parameter.numel() for parameter in codec.parameters()),
        images_per_second,
        batches.images_per_epoch / images_per_second + evaluation,
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
