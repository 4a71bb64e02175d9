"""Training speed of a configuration's codec on a CPU and on a GPU, compiled or not, by precision.

    python tests/benchmarks/devices.py configs/photos.yaml --dataset folder:DIR
        [--steps "cpu fp32" "cuda bf16 compiled" ...]

Each row trains the same batches as `fit` does: crops cut, step, rate control, average of the
weights, cuDNN in a fixed order. Prints images/s, the ratio to the first row, and how long the
steps of one epoch would take.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import yaml

from rdmodels.config import TrialConfig, make_trial, override
from rdmodels.data.batches import TrainingBatches
from rdmodels.data.splits import Splits, load_splits
from rdmodels.training.averaging import averaged, update_average
from rdmodels.training.compiled import step_loss_of
from rdmodels.training.fit import reproducible
from rdmodels.training.rate import after_step, gain_of, start_rate
from rdmodels.training.start import make_codec, make_optimiser
from rdmodels.training.step import step_options, train_step

STEPS = ("cpu fp32", "cuda fp32", "cuda bf16", "cuda fp32 compiled", "cuda bf16 compiled")
ROUNDS = 3


def images_per_second(
    config: TrialConfig, splits: Splits, name: str, batches: int
) -> tuple[float, float]:
    """Median of the rounds, and the seconds that the first batches took."""
    device = torch.device(name)
    codec = make_codec(config, splits.train).to(device)
    optimiser, options = make_optimiser(codec, config), step_options(config)
    loss = step_loss_of(config, device, config.batch_size)
    average, rate, done = averaged(codec), start_rate(0.0, device), 0
    target = torch.tensor(1.0, device=device)
    data = TrainingBatches(splits.train, config, device)

    def some(count: int, epoch: int) -> float:
        nonlocal rate, done
        images, started = 0, time.perf_counter()
        for _, x in zip(range(count), data.epoch(epoch), strict=False):
            figures = train_step(codec, optimiser, x, rate.weight, target, options, loss)
            rate = after_step(rate, figures[2], target, gain_of(1000), config.beta)
            update_average(average, codec, done, config.averaging)
            done, images = done + 1, images + len(x)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return images / (time.perf_counter() - started)

    with reproducible():
        started = time.perf_counter()
        some(min(3, batches), 0)
        first = time.perf_counter() - started
        return statistics.median(some(batches, 1 + index) for index in range(ROUNDS)), first


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--steps", nargs="+", default=list(STEPS))
    parser.add_argument("--images", type=int, default=100, help="of the training set, at most")
    parser.add_argument("--batches", type=int, nargs="+", default=[3, 20], help="CPU, GPU")
    arguments = parser.parse_args()
    trial = yaml.safe_load(arguments.config.read_text())["trial"]
    own = {"dataset": arguments.dataset, "train_images": arguments.images}
    config = make_trial({**trial, **own})
    splits = load_splits(config)
    images = len(splits.train) * config.crops_per_image
    print(
        f"{config.crop_size} px crops, width {config.width}, groups {config.groups}, batch", end=""
    )
    print(f" {config.batch_size}, {torch.get_num_threads()} threads, {torch.__version__}", end=" ")
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")
    base = None
    for name in arguments.steps:
        device, precision, *compiled = name.split()
        values = override(config, {"precision": precision, "compiled": bool(compiled)})
        batches = arguments.batches[device != "cpu"]
        rate, first = images_per_second(values, splits, device, batches)
        base = base or rate
        print(
            f"{name:<18} {rate:8.1f} images/s, {rate / base:6.2f} times the first,"
            f" epoch of {images}: {images / rate:.0f} s, first batches {first:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
