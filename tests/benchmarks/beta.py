"""How hard beta holds the rate: what short trainings reach of the target they were given.

Trains digits with the paper's beta for MSE (250 on 0..255, 0.0038 on our scale) and with 0.1,
for two targets and a few seeds. Prints, for each beta, achieved over target bits per symbol (test,
estimated) and PSNR; every run is listed, those whose rate went to zero too.

    python tests/benchmarks/beta.py [--seeds 4] [--epochs 8] [--width 24]
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from rdmodels.config import ORIGINAL_DISTORTION_SCALE, make_trial
from rdmodels.data.splits import load_splits
from rdmodels.model.storage import load_codec
from rdmodels.training.evaluation import evaluate
from rdmodels.training.fit import fit

PAPER = 250 / ORIGINAL_DISTORTION_SCALE["mse"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=24)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    base = {"width": arguments.width, "groups": 1, "num_latent_channels": 16}
    splits = load_splits(make_trial(base))
    print(f"digits, {arguments.epochs} epochs, width {arguments.width}, C 16; a run: rate / PSNR")
    for beta in (PAPER, 0.1):
        for h_target in (0.3, 0.6):
            runs = []
            for seed in range(arguments.seeds):
                values = {"beta": beta, "h_target": h_target, "seed": seed}
                config = make_trial({**base, **values, "epochs": arguments.epochs})
                with tempfile.TemporaryDirectory() as folder:
                    list(fit(config, splits, Path(folder)))
                    found = evaluate(load_codec(Path(folder))[0], splits.test, config).metrics
                runs.append((found.bits_per_symbol_estimated / h_target, found.psnr_db or 0.0))
            ratios = [ratio for ratio, _ in runs]
            listed = ", ".join(f"{ratio:.2f} / {psnr:.1f}" for ratio, psnr in runs)
            print(
                f"beta {beta:.4f}  h_target {h_target}: achieved / target median"
                f" {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}),"
                f" PSNR {statistics.median(psnr for _, psnr in runs):.1f} dB  [{listed}]",
                flush=True,
            )


if __name__ == "__main__":
    main()
