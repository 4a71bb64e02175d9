"""Optuna's ask and tell as a Ray Tune searcher. The study in the sweep's directory is the truth.

A trial is COMPLETE only on an explicit final report with finite objectives; an early stop is
PRUNED with its partial values beside it; an error, a stop from outside or a non-finite value is
FAIL. Nobody else touches the study.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.search import Searcher

from rdmodels.config import ConfigError
from sweep.space import distributions
from sweep.spec import SweepSpec

STUDY_FILE = "study.journal"
DIRECTIONS: tuple[Literal["minimize"], Literal["minimize"]] = ("minimize", "minimize")
"""Of the two objectives: validation bpp and validation distortion."""

Status = Literal["complete", "pruned", "failed"]
OnEnd = Callable[[str, Status, Mapping[str, Any]], None]


class Proposal(NamedTuple):
    """A trial to run: its id in the sweep, and the values of the searched fields."""

    trial_id: str
    overrides: dict[str, Any]


class SweepStudy:
    """The Optuna study of one sweep, in a journal file in the sweep's directory.

    Args:
        directory: of the sweep.
        study_name: the sweep's id.
        spec: gives the space, the sampler and its seed.

    Raises:
        ConfigError: if the file holds a study of another space or other objectives.
    """

    def __init__(self, directory: Path, study_name: str, spec: SweepSpec) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._distributions = distributions(spec.space)
        storage = JournalStorage(JournalFileBackend(str(directory / STUDY_FILE)))
        self._study = optuna.create_study(
            study_name=study_name, storage=storage, directions=DIRECTIONS, load_if_exists=True
        )
        self._verify(directory)
        taken = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = make_sampler(spec, taken)
        self._asked: dict[str, optuna.Trial] = {}
        self._limit = spec.num_trials
        if spec.search.sampler == "grid" and not taken:
            for point in spec.grid()[: self._limit]:
                self._study.enqueue_trial(point)

    def _verify(self, directory: Path) -> None:
        space = {n: json.loads(_to_json(d)) for n, d in self._distributions.items()}
        fingerprint = hashlib.sha256(json.dumps(space, sort_keys=True).encode()).hexdigest()
        known = self._study.user_attrs.get("space_fingerprint")
        if known is None:
            self._study.set_user_attr("space_fingerprint", fingerprint)
        elif known != fingerprint:
            raise ConfigError(
                f"{directory / STUDY_FILE} holds trials of another space: use a new --output"
            )
        directions = [direction.name.lower() for direction in self._study.directions]
        if directions != list(DIRECTIONS):
            raise ConfigError(
                f"{directory / STUDY_FILE} has objectives {directions}, expected"
                f" {list(DIRECTIONS)}: use a new --output"
            )

    def ask(self) -> Proposal | None:
        """The next trial, or None when all have been proposed."""
        started = [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state is not TrialState.WAITING
        ]
        if len(started) >= self._limit:
            return None
        trial = self._study.ask(self._distributions)
        trial_id = trial_name(trial.number)
        trial.set_user_attr("trial_id", trial_id)
        self._asked[trial_id] = trial
        return Proposal(trial_id, dict(trial.params))

    def complete(self, trial_id: str, bpp: float, distortion: float) -> bool:
        """Tell the final objectives; False (and FAIL) if they are not finite."""
        if not (math.isfinite(bpp) and math.isfinite(distortion)):
            self.fail(trial_id, f"objectives are not finite: bpp {bpp}, distortion {distortion}")
            return False
        self._study.tell(_number(trial_id), [bpp, distortion])
        return True

    def prune(self, trial_id: str, partial: Mapping[str, float]) -> None:
        """Tell an early stop; its latest values go into the trial's attributes."""
        self._set_attr(trial_id, "partial", dict(partial))
        self._study.tell(_number(trial_id), state=TrialState.PRUNED)

    def fail(self, trial_id: str, reason: str) -> None:
        """Tell a failure, or a stop from outside, with its reason."""
        self._set_attr(trial_id, "reason", reason)
        self._study.tell(_number(trial_id), state=TrialState.FAIL)

    def open_trials(self) -> list[str]:
        """Ids of trials that were proposed and have not ended."""
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial_name(trial.number) for trial in trials]

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """Copies of all trials, in the order they were proposed."""
        return self._study.get_trials()

    def _set_attr(self, trial_id: str, key: str, value: Any) -> None:
        self._asked[trial_id].set_user_attr(key, value)


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


def trial_name(number: int) -> str:
    """A trial's id in its sweep, from Optuna's number."""
    return f"t{number:04d}"


def _number(trial_id: str) -> int:
    return int(trial_id.removeprefix("t"))


def _to_json(distribution: optuna.distributions.BaseDistribution) -> str:
    return optuna.distributions.distribution_to_json(distribution)


class OptunaSearcher(Searcher):  # type: ignore[misc]
    """Ray Tune's door to a `SweepStudy`.

    Ray's `metric` stays unset: one report without it would end the whole sweep. The objectives are
    read from the final report's `bpp` and `distortion`.

    Args:
        study: where trials come from and end.
        on_end: called with (trial id, status, last report) after a trial has ended by itself.
    """

    def __init__(self, study: SweepStudy, on_end: OnEnd) -> None:
        super().__init__(metric=None, mode=None)
        self.study = study
        self._on_end = on_end
        self._ids: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        proposal = self.study.ask()
        if proposal is None:
            finished: str = Searcher.FINISHED
            return finished
        self._ids[trial_id] = proposal.trial_id
        return {"trial_id": proposal.trial_id, "overrides": proposal.overrides}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        ours = self._ids.pop(trial_id, None)
        if ours is None:
            return
        self._on_end(
            ours, self._tell(ours, result or {}, failed=error or result is None), result or {}
        )

    def _tell(self, trial_id: str, result: Mapping[str, Any], *, failed: bool) -> Status:
        if failed:
            self.study.fail(trial_id, "the trial ended with an error")
            return "failed"
        if result.get("final"):
            finite = self.study.complete(trial_id, result["bpp"], result["distortion"])
            return "complete" if finite else "failed"
        keys = ("epoch", "bpp", "distortion")
        self.study.prune(trial_id, {key: result[key] for key in keys if key in result})
        return "pruned"

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles the searcher into snapshots that nobody reads: the study is on disk.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the study is on disk."""
