"""Which normalisation the codec should have: validation in evaluation mode, epoch by epoch.

Trains the same trials with group norm, with batch norm whose statistics are re-estimated before
each evaluation, and with batch norm as it comes (running averages). Prints the worst validation
rate of any epoch as a ratio to raw L-ary coding (above 1 a figure is not a data point) and the
final validation loss as a ratio to group norm's.

    python tests/benchmarks/normalisation.py [--dataset mnist --data-dir DIR] [--seeds 3]
"""

import argparse
import contextlib
import statistics
import tempfile
from pathlib import Path
from unittest import mock

from rdmodels.config import make_trial
from rdmodels.data.splits import Splits, load_splits
from rdmodels.results.trial import EpochRecord
from rdmodels.training import evaluation
from rdmodels.training import fit as fit_module


def train(values: dict[str, object], splits: Splits, *, reestimate: bool) -> list[EpochRecord]:
    config = make_trial(values)
    directory = tempfile.TemporaryDirectory()
    # The guard that fails a bad evaluation is what this measures the need of.
    unguarded = mock.patch.object(evaluation, "check_figures")
    running: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if not reestimate:
        running = mock.patch.object(fit_module, "reestimate_batch_norm")
    with directory as path, unguarded, running:
        return list(fit_module.fit(config, splits, Path(path)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", default="datasets")
    parser.add_argument("--train-images", type=int, default=10_000)
    arguments = parser.parse_args()
    base: dict[str, object] = {
        "dataset": arguments.dataset,
        "data_dir": arguments.data_dir,
        "train_images": arguments.train_images,
        "width": 32,
        "groups": 1,
        "num_latent_channels": 16,
        "epochs": arguments.epochs,
        "batch_size": 64,
        "beta": 0.03,
    }
    splits = load_splits(make_trial(base))
    kinds = {
        "group": ({"normalisation": "group"}, True),
        "batch, re-estimated": ({"normalisation": "batch"}, True),
        "batch, running": ({"normalisation": "batch"}, False),
    }
    final: dict[str, list[float]] = {}
    print(f"{arguments.dataset}, {arguments.epochs} epochs, {arguments.seeds} seeds")
    for name, (values, reestimate) in kinds.items():
        worst = 0.0
        figures = []
        for seed in range(arguments.seeds):
            trial = {**base, **values, "seed": seed}
            records = train(trial, splits, reestimate=reestimate)
            raw = make_trial(trial).bits_per_raw_symbol
            worst = max(worst, *(record.val.bits_per_symbol_estimated / raw for record in records))
            last = records[-1].val
            figures.append(f"{last.bpp_estimated:.3f} bpp {last.psnr_db or 0:.2f} dB")
            final.setdefault(name, []).append(last.loss)
        ratio = statistics.median(final[name]) / statistics.median(final["group"])
        print(f"{name:>20}: worst rate / raw coding {worst:5.2f}", end="  ")
        print(f"final loss / group's {ratio:6.2f}  ({', '.join(figures)})")


if __name__ == "__main__":
    main()
