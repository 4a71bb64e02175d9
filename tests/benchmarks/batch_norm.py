"""How much the draw of the crops that batch-norm statistics are of changes the figures of a codec.

Trains one codec on photographs as `recipe.py` does, untrimmed, and evaluates its last weights on
the validation images with statistics of 64, 256 and 1,024 crops, of several draws each.

    python tests/benchmarks/batch_norm.py --dataset folder:DIR [--seed 0] [--target 0.15]
"""

import argparse
import copy
import tempfile
from pathlib import Path

import torch
from recipe import PHOTOGRAPHS

from rdmodels.config import make_trial
from rdmodels.data.splits import load_splits
from rdmodels.training import statistics
from rdmodels.training.evaluation import evaluate
from rdmodels.training.fit import fit
from rdmodels.training.start import start_training

CROPS = (64, 256, 1024)
DRAWS = 6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", type=float, default=0.15)
    arguments = parser.parse_args()
    own = {"dataset": arguments.dataset, "seed": arguments.seed, "target_bpp": arguments.target}
    config = make_trial({**PHOTOGRAPHS, "width": 32, "groups": 1, "rate_trim": False, **own})
    splits = load_splits(config)
    with tempfile.TemporaryDirectory() as folder:
        for _ in fit(config, splits, Path(folder)):
            pass
        training = start_training(config, splits, Path(folder), torch.device("cpu"), resume=True)
    for crops in CROPS:
        statistics.CROPS = crops
        rates, qualities = [], []
        for draw in range(DRAWS):
            codec = copy.deepcopy(training.average)
            statistics.reestimate_batch_norm(codec, training.batches, 1000 * (1 + draw))
            found = evaluate(codec, splits.validation, config, structural=False).metrics
            rates.append(found.rate_over_target)
            qualities.append(found.psnr_db or float("nan"))
        print(
            f"{crops:>5} crops: PSNR {min(qualities):.2f} to {max(qualities):.2f} dB,"
            f" rate {min(rates):.3f} to {max(rates):.3f} times its target, {DRAWS} draws"
        )


if __name__ == "__main__":
    main()
