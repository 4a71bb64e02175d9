"""Training speed of one trial under settings of OpenMP's waiting, with idle and with busy CPUs.

Every setting gets fresh processes, for OpenMP reads its environment when torch is imported. Each
measures the machine as it is ("quiet"), then beside processes that only burn CPU ("busy").
Settings take turns within a round, so that a noisy neighbour slows all of them; the load average
before each round says whether there was one.

    python tests/benchmarks/threads.py [--threads 2] [--busy 1] [--rounds 5] [--seconds 3]
        [--set NAME=VALUE ...]

Prints, for each setting, images/s and their ratio to "nothing", one training of all threads in an
environment without any OpenMP setting: medians over the rounds, the least and the greatest in
brackets. "a thread each" is as many trainings at once as there are threads, of one thread each,
their images/s together: what a sweep does whose trials take one CPU.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

SETTINGS = (
    "OMP_WAIT_POLICY=PASSIVE",
    "GOMP_SPINCOUNT=1000",
    "GOMP_SPINCOUNT=3000",
    "GOMP_SPINCOUNT=10000",
    "GOMP_SPINCOUNT=30000",
)
NOTHING = "nothing"
EACH = "a thread each"
START_SECONDS = 15.0
"""For processes that measure together to import torch and warm up."""
CONDITIONS = ("quiet", "busy")
PREFIXES = ("OMP_", "GOMP_", "KMP_", "MKL_")
WARM_UP_SECONDS = 0.3
Rates = dict[str, float]


def training(threads: int) -> Callable[[], int]:
    """A function that trains one step and returns its number of images."""
    # Not at the top: the parent needs no torch.
    import torch

    from rdmodels.config import make_trial
    from rdmodels.data.batches import TrainingBatches
    from rdmodels.data.splits import load_splits
    from rdmodels.training.start import make_codec, make_optimiser
    from rdmodels.training.step import step_options, train_step

    torch.set_num_threads(threads)
    config = make_trial(
        {
            "width": 32,
            "groups": 1,
            "num_latent_channels": 32,
            "batch_size": 30,
            "dataset": "digits",
        }
    )
    train = load_splits(config).train
    codec = make_codec(config, train)
    optimiser = make_optimiser(codec, config)
    data = TrainingBatches(train, config, torch.device("cpu"))
    batches = data.epoch(0)
    epoch = 0
    options = step_options(config)
    values = (torch.tensor(config.beta), torch.tensor(1.0))

    def step() -> int:
        nonlocal batches, epoch
        x = next(batches, None)
        if x is None:
            epoch += 1
            batches = data.epoch(epoch)
            x = next(batches)
        train_step(codec, optimiser, x, *values, options)
        return len(x)

    return step


def rate(step: Callable[[], int], seconds: float) -> float:
    """Images/s over whole steps, at least one, after a warm-up."""
    run(step, WARM_UP_SECONDS)
    started = time.perf_counter()
    images = run(step, seconds)
    return images / (time.perf_counter() - started)


def run(step: Callable[[], int], seconds: float) -> int:
    end = time.perf_counter() + seconds
    images = step()
    while time.perf_counter() < end:
        images += step()
    return images


def measure(threads: int, busy: int, seconds: float, start: float) -> Rates:
    """What one fresh process does from the time `start` on; another may do so beside it."""
    step = training(threads)
    step()
    wait_until(start)
    quiet = rate(step, seconds)
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    wait_until(start + seconds + 2 * WARM_UP_SECONDS + 0.5)
    try:
        return {"quiet": quiet, "busy": rate(step, seconds)}
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


def measure_under(setting: str, arguments: argparse.Namespace) -> Rates:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIXES)}
    if "=" in setting:
        name, _, value = setting.partition("=")
        environment[name] = value
    count, threads = (arguments.threads, 1) if setting == EACH else (1, arguments.threads)
    options = [f"--start={time.time() + START_SECONDS}", f"--seconds={arguments.seconds}"]
    children = [
        subprocess.Popen(
            [
                *(sys.executable, __file__, "--child", f"--threads={threads}"),
                # The busy processes are those of the first.
                *(f"--busy={0 if index else arguments.busy}", *options),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    found: list[Rates] = [json.loads(child.communicate()[0]) for child in children]
    return {condition: sum(each[condition] for each in found) for condition in CONDITIONS}


def spread(values: list[float], digits: int) -> str:
    low, middle, high = (
        f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", type=int, default=1, help="processes that burn CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--set", nargs="+", default=SETTINGS, metavar="NAME=VALUE")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--start", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        found = measure(arguments.threads, arguments.busy, arguments.seconds, arguments.start)
        print(json.dumps(found))
        return
    settings = (NOTHING, EACH, *arguments.set)
    rounds: list[dict[str, Rates]] = []
    loads = []
    for _ in range(arguments.rounds):
        loads.append(os.getloadavg()[0])
        rounds.append({setting: measure_under(setting, arguments) for setting in settings})
    print(f"digits, width 32, groups 1, C 32, batch 30, {arguments.threads} threads on", end=" ")
    print(f"{os.cpu_count()} CPUs, {arguments.busy} busy, {len(rounds)} rounds,", end=" ")
    print("load before each: " + " ".join(f"{load:.1f}" for load in loads))
    for condition in CONDITIONS:
        print(f"{condition:<24} {'images/s':<28} ratio to {NOTHING}")
        for setting in settings:
            rates = [measured[setting][condition] for measured in rounds]
            ratios = [
                measured[setting][condition] / measured[NOTHING][condition] for measured in rounds
            ]
            print(f"  {setting:<22} {spread(rates, 1):<28} {spread(ratios, 2)}")


if __name__ == "__main__":
    main()
