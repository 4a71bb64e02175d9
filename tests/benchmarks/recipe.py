"""What each part of the training recipe is worth, at equal steps and equal rate.

Trains small codecs for a few hundred steps at several target rates and seeds, once by each
variant, and writes every image as bytes. The baseline is the recipe of the first releases, kept as
settings: the paper's hinge at a fixed weight, constant learning rates, no average of weights.
The hinge has two weights, 0.1, the default then, and 0.03, which reaches less of its target. A
run's gain is its test PSNR over the baseline's at the same rate: the same seed's points of both
weights, their upper hull, interpolated linearly in log2(bpp), never extrapolated.

Every run is appended to the output and never done twice, so a broken benchmark goes on; the table
is printed from all that is there.

    python tests/benchmarks/recipe.py --dataset mnist --data-dir DIR
    python tests/benchmarks/recipe.py --dataset folder:DIR [--variants recipe baseline]

`--set epochs=36` sets fields otherwise, for all but the variants that set them; its runs are
tables of their own.
"""

import argparse
import itertools
import json
import math
import multiprocessing
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

TARGETS = (0.08, 0.15, 0.28, 0.5)
AROUND = (0.05, 0.8)
"""More targets of the baseline, so that its curve spans all rates."""
BASELINE: dict[str, Any] = {
    "rate_control": "hinge",
    "beta": 0.03,
    "rate_trim": False,
    "learning_rate": 1e-3,
    "context_learning_rate": 2e-3,
    "learning_rate_decay": 0.0,
    "averaging": 0.0,
    "context_share": 1.0,
    "residual_init": 1.0,
    "importance_bias": 0.0,
    "rate_ramp": 0.0,
    "target_anneal": 0.0,
    "center_at_zero": False,
}
HINGES = ("baseline", "baseline, beta 0.1")
HALF_RATES = {"learning_rate": 1e-3, "context_learning_rate": 2e-3}
VARIANTS: dict[str, dict[str, Any]] = {
    "baseline": BASELINE,
    "baseline, beta 0.1": {**BASELINE, "beta": 0.1},
    "recipe": {},
    # One part of the recipe put back to the baseline's.
    "recipe, hinge (0.03)": {"rate_control": "hinge", "beta": 0.03},
    "recipe, hinge with ramp": {"rate_control": "hinge", "beta": 0.03, "rate_ramp": 0.6},
    "recipe, no trim": {"rate_trim": False},
    "recipe, no average": {"averaging": 0.0},
    "recipe, constant rates": {"learning_rate_decay": 0.0},
    "recipe, residual blocks at 1": {"residual_init": 1.0},
    "recipe, no center at 0": {"center_at_zero": False},
    "recipe, learning rates / 2": HALF_RATES,
    "recipe, all bits": {"context_share": 1.0},
    # Other settings of its parts.
    "recipe, beta 0.0003": {"beta": 0.0003},
    "recipe, beta 0.01": {"beta": 0.01},
    "recipe, learning rates x 1.5": {"learning_rate": 3e-3, "context_learning_rate": 6e-3},
    "recipe, context rate / 2": {"context_learning_rate": 2e-3},
    "recipe, decay over 0.1": {"learning_rate_decay": 0.1},
    "recipe, decay over 0.4": {"learning_rate_decay": 0.4},
    "recipe, decay over all": {"learning_rate_decay": 1.0},
    "recipe, average 0.98": {"averaging": 0.98},
    "recipe, average 0.995": {"averaging": 0.995},
    "recipe, half of the bits": {"context_share": 0.5},
    "recipe, a quarter of the bits": {"context_share": 0.25},
    "recipe, importance open": {"importance_bias": 2.0},
    "recipe, gradient clipped": {"gradient_clip": 0.05},
    "recipe, rate ramp": {"rate_ramp": 0.3},
    "recipe, target annealed": {"target_anneal": 0.5},
    "recipe, batches of 15": {"batch_size": 15},
    "recipe, group norm": {"normalisation": "group"},
    # One part of the recipe alone.
    "baseline, average": {**BASELINE, "averaging": 0.99},
    "baseline, ramp": {**BASELINE, "rate_ramp": 0.6},
    "baseline, average and ramp": {**BASELINE, "averaging": 0.99, "rate_ramp": 0.6},
    "baseline, target annealed": {**BASELINE, "target_anneal": 0.5},
    "baseline, decay": {**BASELINE, "learning_rate_decay": 0.4},
    "baseline, residual blocks at 0": {**BASELINE, "residual_init": 0.0},
    "baseline, controller": {**BASELINE, "rate_control": "controller", "beta": 0.002},
}
SMALL = {
    "train_images": 3000,
    "test_images": 1000,
    "num_latent_channels": 16,
    "epochs": 6,
}
PHOTOGRAPHS = {
    "color": "rgb",
    "crop_size": 64,
    "crops_per_image": 10,
    "validation_images": 8,
    "test_images": 12,
    "num_latent_channels": 32,
    "batch_size": 8,
    "epochs": 5,
    **HALF_RATES,
}
"""As configs/photos-laptop.yaml, in 1,200 steps: variants of the learning rates are for MNIST."""


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train and code one model in this process, on one thread."""
    import torch

    from rdmodels.config import make_trial
    from rdmodels.data.splits import load_splits
    from rdmodels.training.finish import finish
    from rdmodels.training.fit import fit

    torch.set_num_threads(1)
    config = make_trial(job["config"])
    splits = load_splits(config, download=False)
    with tempfile.TemporaryDirectory() as folder:
        records = list(fit(config, splits, Path(folder), device=job["device"]))
        result = finish(Path(folder), splits, device=job["device"])
    return {
        **{name: job[name] for name in ("dataset", "variant", "seed", "target", "set")},
        "bpp": result.test.bpp,
        "validation_bpp": result.best.bpp,
        "psnr_db": result.test.psnr_db,
        "rate_weight": records[-1].train.rate_weight,
        "importance": result.best.importance,
        "validation_psnr_db": [r.val.psnr_db if r.val else None for r in records],
        "best_epoch": result.best_epoch,
        "collapsed": result.collapsed,
        "seconds": result.seconds.total,
        "training_share": result.seconds.training_share,
    }


def jobs(arguments: argparse.Namespace, done: set[tuple[Any, ...]]) -> list[dict[str, Any]]:
    photographs = arguments.dataset.startswith("folder:")
    base = {
        "dataset": arguments.dataset,
        "data_dir": arguments.data_dir,
        "width": 32,
        "groups": 1,
        **(PHOTOGRAPHS if photographs else SMALL),
    }
    kind = "photographs" if photographs else arguments.dataset
    found = []
    for name, seed in itertools.product(arguments.variants, range(arguments.seeds)):
        targets = arguments.targets
        if name.startswith("baseline") and "," not in name.replace(", beta", ""):
            targets = sorted({*targets, *AROUND})
        for target in targets:
            if (kind, name, seed, target, json.dumps(dict(arguments.set))) in done:
                continue
            own = {**dict(arguments.set), "seed": seed, "target_bpp": target, **VARIANTS[name]}
            found.append(
                {
                    "dataset": kind,
                    "variant": name,
                    "seed": seed,
                    "target": target,
                    "set": dict(arguments.set),
                    "config": {**base, **own},
                    "device": arguments.device,
                }
            )
    return found


def curve(runs: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Upper hull of (log2 bpp, PSNR), ascending."""
    hull: list[tuple[float, float]] = []
    for point in sorted((math.log2(r["bpp"]), r["psnr_db"]) for r in runs):
        while len(hull) > 1 and _right_of(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _right_of(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or below the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def gain(run_: dict[str, Any], base: list[tuple[float, float]]) -> float | None:
    """dB over the baseline's curve at the same rate; None outside of it."""
    rate = math.log2(run_["bpp"])
    if not base[0][0] <= rate <= base[-1][0]:
        return None
    rates, qualities = zip(*base, strict=True)
    return float(run_["psnr_db"] - np.interp(rate, rates, qualities))


def interval(values: list[float]) -> str:
    """Mean and its 95 % interval by a bootstrap over the values."""
    draws = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{statistics.mean(values):+.2f} ({low:+.2f} to {high:+.2f})"


def report(runs: list[dict[str, Any]], baseline: tuple[str, ...]) -> None:
    former = [r for r in runs if r["variant"] in baseline]
    curves = {
        seed: curve([r for r in former if r["seed"] == seed])
        for seed in {r["seed"] for r in former}
    }
    targets = sorted({r["target"] for r in runs} - set(AROUND))
    print(f"\ngain in dB over {' and '.join(baseline)} at equal rate; written rate over target")
    head = " | ".join(f"{target:g} bpp" for target in targets)
    print(f"| variant | {head} | mean (95 %) | rate / target: median, all | spread | collapsed |")
    print("|---|" + "---|" * (len(targets) + 4))
    for name in dict.fromkeys(r["variant"] for r in runs):
        own = [r for r in runs if r["variant"] == name and r["target"] in targets]
        cells: list[str] = []
        per_seed: dict[int, list[float]] = {}
        spreads: list[float] = []
        for target in targets:
            here = [r for r in own if r["target"] == target]
            gains = []
            for r in here:
                found = gain(r, curves[r["seed"]]) if r["seed"] in curves else None
                if found is not None:
                    gains.append(found)
                    per_seed.setdefault(r["seed"], []).append(found)
            cells.append(f"{statistics.mean(gains):+.2f}" if gains else "–")
            if len(here) > 1:
                spreads.append(statistics.stdev([math.log(r["bpp"] / target) for r in here]))
        ratios = [r["bpp"] / r["target"] for r in own]
        means = [statistics.mean(values) for values in per_seed.values()]
        whole = interval(means) if len(means) > 1 else "–"
        spread = f"{statistics.mean(spreads):.1%}" if spreads else "–"
        collapsed = sum(r["collapsed"] is not None for r in own)
        print(
            f"| {name} | {' | '.join(cells)} | {whole} | {statistics.median(ratios):.3f}"
            f" ({min(ratios):.2f} to {max(ratios):.2f}) | {spread} | {collapsed} of {len(own)} |"
        )


def setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir", default="datasets")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--targets", type=float, nargs="+", default=list(TARGETS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--set", type=setting, nargs="+", default=[], metavar="NAME=VALUE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("recipe.jsonl"))
    arguments = parser.parse_args()
    kind = "photographs" if arguments.dataset.startswith("folder:") else arguments.dataset
    lines = arguments.output.read_text().splitlines() if arguments.output.exists() else []
    runs = [json.loads(line) for line in lines]
    done = {
        (r["dataset"], r["variant"], r["seed"], r["target"], json.dumps(r.get("set", {})))
        for r in runs
    }
    # Spawned: a forked process would share the threads that torch has started.
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for result in pool.imap_unordered(run, jobs(arguments, done)):
            runs.append(result)
            with arguments.output.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(json.dumps(result), flush=True)
    given = dict(arguments.set)
    own = [r for r in runs if r["dataset"] == kind and r.get("set", {}) == given]
    order = list(VARIANTS)
    own.sort(key=lambda r: order.index(r["variant"]))
    for baseline in (HINGES, *((name,) for name in HINGES)):
        if any(r["variant"] in baseline for r in own):
            report(own, baseline)


if __name__ == "__main__":
    main()
