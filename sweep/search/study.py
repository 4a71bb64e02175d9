"""The Optuna study of a sweep: a journal file in the sweep's directory, and the truth about it.

A trial is COMPLETE only on an explicit final report with finite objectives; an early stop is
PRUNED with its partial values beside it; an error, a stop from outside or a non-finite value is
FAIL. Nobody else touches the study, and how far a sweep is can be told from it alone.
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
from optuna.trial import FrozenTrial, TrialState

from rdmodels.errors import ConfigError
from sweep.search.samplers import make_sampler
from sweep.spec.space import distributions
from sweep.spec.spec import SweepSpec

STUDY_FILE = "study.journal"
DIRECTIONS: tuple[Literal["minimize"], Literal["minimize"]] = ("minimize", "minimize")
"""Of the two objectives: validation bpp and validation distortion."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

Status = Literal["complete", "pruned", "failed", "stopped"]


class Proposal(NamedTuple):
    """A trial to run: its id in the sweep, and the values of the searched fields."""

    trial_id: str
    overrides: dict[str, Any]


class EndedTrial(NamedTuple):
    """A trial that has ended, as the study knows it.

    bpp: of a complete trial. quality: of a complete trial, what the frontier maximises, unless it
    is infinite. collapsed: of a complete trial, what is wrong with its codec. reason: why it
    failed or was stopped.
    """

    trial_id: str
    overrides: dict[str, Any]
    status: Status
    bpp: float | None = None
    quality: float | None = None
    collapsed: str | None = None
    reason: str | None = None


class SweepStudy:
    """The Optuna study of one sweep.

    Args:
        directory: of the sweep.
        study_name: the sweep's id.
        spec: gives the space, the sampler and its seed.

    Raises:
        ConfigError: if the file is damaged, or holds a study of another space or other objectives.
    """

    def __init__(self, directory: Path, study_name: str, spec: SweepSpec) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        file = directory / STUDY_FILE
        self._distributions = distributions(spec.space)
        try:
            self._storage = JournalStorage(JournalFileBackend(str(file)))
            self._study = optuna.create_study(
                study_name=study_name,
                storage=self._storage,
                directions=DIRECTIONS,
                load_if_exists=True,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{file} is not a study that rdsweep wrote, or is damaged"
                f" ({type(error).__name__}: {error}): use a new --output"
            ) from error
        self._verify(file)
        taken = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = make_sampler(spec, taken)
        self._limit = spec.num_trials
        self._ended: dict[int, EndedTrial] = {}
        if spec.search.sampler == "grid" and not taken:
            for point in spec.grid()[: self._limit]:
                self._study.enqueue_trial(point)

    def _verify(self, file: Path) -> None:
        space = {n: json.loads(_to_json(d)) for n, d in self._distributions.items()}
        fingerprint = hashlib.sha256(json.dumps(space, sort_keys=True).encode()).hexdigest()
        known = self._study.user_attrs.get("space_fingerprint")
        if known is None:
            self._study.set_user_attr("space_fingerprint", fingerprint)
        elif known != fingerprint:
            raise ConfigError(f"{file} holds trials of another space: use a new --output")
        directions = [direction.name.lower() for direction in self._study.directions]
        if directions != list(DIRECTIONS):
            raise ConfigError(
                f"{file} has objectives {directions}, expected {list(DIRECTIONS)}:"
                " use a new --output"
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
        return Proposal(trial_id, dict(trial.params))

    def complete(
        self,
        trial_id: str,
        bpp: float,
        distortion: float,
        quality: float | None,
        collapsed: str | None = None,
    ) -> None:
        """Tell the final objectives; a trial fails if they are not finite.

        Args:
            quality: what the frontier maximises; it goes into the trial's attributes.
            collapsed: what is wrong with the codec, if anything; likewise.
        """
        if not (math.isfinite(bpp) and math.isfinite(distortion)):
            self.fail(trial_id, f"objectives are not finite: bpp {bpp}, distortion {distortion}")
            return
        if quality is not None and math.isfinite(quality):
            self._set_attr(trial_id, "quality", quality)
        if collapsed is not None:
            self._set_attr(trial_id, "collapsed", collapsed)
        self._study.tell(_number(trial_id), [bpp, distortion])

    def prune(self, trial_id: str, partial: Mapping[str, float]) -> None:
        """Tell an early stop; its latest values go into the trial's attributes."""
        self._set_attr(trial_id, "partial", dict(partial))
        self._study.tell(_number(trial_id), state=TrialState.PRUNED)

    def fail(self, trial_id: str, reason: str) -> None:
        """Tell a failure with its reason."""
        self._set_attr(trial_id, "reason", reason)
        self._study.tell(_number(trial_id), state=TrialState.FAIL)

    def stop(self, trial_id: str, reason: str) -> None:
        """Tell that a trial was stopped from outside: no fault of its own, and no result."""
        self._set_attr(trial_id, "stopped", True)
        self.fail(trial_id, reason)

    def open_trials(self) -> list[str]:
        """Ids of trials that were proposed and have not ended."""
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial_name(trial.number) for trial in trials]

    def ended_trials(self) -> list[EndedTrial]:
        """Every trial that has ended, in the order they were proposed; 3 ms at 3,000 trials."""
        trials = self._study.get_trials(deepcopy=False, states=ENDED)
        for trial in trials:
            # Optuna never changes a trial again that has ended.
            if trial.number not in self._ended:
                self._ended[trial.number] = _ended(trial)
        return [self._ended[trial.number] for trial in trials]

    def trials(self) -> list[FrozenTrial]:
        """Copies of all trials, in the order they were proposed."""
        return self._study.get_trials()

    def _set_attr(self, trial_id: str, key: str, value: Any) -> None:
        # By the storage: the trial may have been proposed before this study was opened.
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        known = self._storage.get_trial_id_from_study_id_trial_number(study_id, _number(trial_id))
        self._storage.set_trial_user_attr(known, key, value)


def trial_name(number: int) -> str:
    """A trial's id in its sweep, from Optuna's number."""
    return f"t{number:04d}"


def _number(trial_id: str) -> int:
    return int(trial_id.removeprefix("t"))


def _ended(trial: FrozenTrial) -> EndedTrial:
    trial_id, attrs = trial_name(trial.number), trial.user_attrs
    match trial.state:
        case TrialState.COMPLETE:
            bpp, quality = trial.values[0], attrs.get("quality")
            collapsed = attrs.get("collapsed")
            return EndedTrial(trial_id, trial.params, "complete", bpp, quality, collapsed)
        case TrialState.PRUNED:
            return EndedTrial(trial_id, trial.params, "pruned")
    status: Status = "stopped" if attrs.get("stopped") else "failed"
    return EndedTrial(trial_id, trial.params, status, reason=attrs.get("reason"))


def _to_json(distribution: optuna.distributions.BaseDistribution) -> str:
    return optuna.distributions.distribution_to_json(distribution)
