"""Samplers by name."""

import hashlib

from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from sweep.spec.spec import SweepSpec


def make_sampler(spec: SweepSpec, taken: int) -> BaseSampler:
    """The sampler that `spec` names, its seed derived from the sweep's and the trials so far.

    Reusing the seed itself after trials have been taken would propose the first points again.
    """
    digest = hashlib.sha256(f"{spec.search.seed}:{taken}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    # Random start-up takes a quarter of a short sweep rather than most of it.
    startup = min(10, max(3, spec.num_trials // 4))
    match spec.search.sampler:
        case "tpe":
            return TPESampler(multivariate=True, n_startup_trials=startup, seed=seed)
        case "nsga2":
            population = min(50, max(4, spec.num_trials // 4))
            return NSGAIISampler(population_size=population, seed=seed)
        case "gp":
            return GPSampler(n_startup_trials=startup, seed=seed)
        case "random" | "grid":
            # A grid's points are enqueued; the sampler only answers for what is not.
            return RandomSampler(seed=seed)
