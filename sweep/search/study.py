"""Optuna's ask and tell as a Ray Tune searcher. The study in the sweep's directory is the truth.

A trial is COMPLETE only on an explicit final report with finite objectives; an early stop is
PRUNED with its partial values beside it; an error, a stop from outside or a non-finite value is
FAIL. Nobody else touches the study.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from rdmodels.errors import ConfigError
from sweep.search.samplers import make_sampler
from sweep.spec.space import distributions
from sweep.spec.spec import SweepSpec

STUDY_FILE = "study.journal"
DIRECTIONS: tuple[Literal["minimize"], Literal["minimize"]] = ("minimize", "minimize")
"""Of the two objectives: validation bpp and validation distortion."""


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


def trial_name(number: int) -> str:
    """A trial's id in its sweep, from Optuna's number."""
    return f"t{number:04d}"


def _number(trial_id: str) -> int:
    return int(trial_id.removeprefix("t"))


def _to_json(distribution: optuna.distributions.BaseDistribution) -> str:
    return optuna.distributions.distribution_to_json(distribution)
