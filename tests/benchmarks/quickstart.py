"""The quickstart with the training recipe of the first releases, and as it is: one run of each.

The same sampler, seed and number of trials. The former recipe, kept as settings, trains 8 epochs
and searches the weight of the paper's hinge; the present one is what `configs/quickstart.yaml`
says. Prints the hypervolume from one corner, the time, and how much of the slots' time was
training steps.

    python tests/benchmarks/quickstart.py [--seeds 1]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from analysis.frontier import hypervolume
from analysis.store.runs import Sweep, read_sweep

QUICKSTART = Path("configs/quickstart.yaml")
FORMER = (
    "trial.rate_control=hinge",
    "trial.averaging=0",
    "trial.learning_rate_decay=0",
    "trial.learning_rate=0.001",
    "trial.context_learning_rate=0.002",
    "trial.context_share=1",
    "trial.residual_init=1",
    "trial.center_at_zero=false",
    "trial.channels_last=false",
    "trial.epochs=8",
    "space.beta={low: 0.001, high: 0.1, log: true}",
)
SLOTS = 2


def launch(settings: tuple[str, ...], directory: Path) -> Sweep:
    command = [Path(sys.executable).with_name("rdsweep"), "launch", QUICKSTART]
    options = [option for setting in settings for option in ("--set", setting)]
    subprocess.run(
        [*command, *options, "--output", directory], check=True, stdout=subprocess.DEVNULL
    )
    return read_sweep(directory)


def describe(name: str, sweep: Sweep) -> float:
    trials = sweep.trials
    complete = trials[trials["status"] == "complete"]
    points = zip(complete["val_bpp"], complete["val_psnr_db"], strict=True)
    found = hypervolume(points, sweep.info.corner)
    steps = float((trials["training_share"] * trials["train_seconds"]).sum())
    seconds = sweep.seconds or float("nan")
    ratios = complete["val_rate_over_target"]
    print(
        f"{name:>8}: hypervolume {found:.1f} log2(bpp) x dB; {len(complete)} complete,"
        f" {int(complete['collapsed'].notna().sum())} collapsed; {seconds:.0f} s; of trials' time"
        f" {complete['training_share'].mean():.0%} is training steps, of the slots' time"
        f" {steps / (SLOTS * seconds):.0%}; rate over target median"
        f" {ratios.median():.2f} ({ratios.min():.2f} to {ratios.max():.2f});"
        f" best PSNR {complete['val_psnr_db'].max():.1f} dB",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    gains = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            both = (f"search.seed={seed}", f"trial.seed={seed}")
            former = describe("former", launch((*FORMER, *both), Path(folder) / "former"))
            present = describe("present", launch(both, Path(folder) / "present"))
            gains.append(present / former)
    print(f"hypervolume, present over former: median {statistics.median(gains):.2f}")


if __name__ == "__main__":
    main()
