"""SweepSpec: what a sweep runs, read from YAML, validated before anything starts."""

import itertools
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rdmodels.config import TrialConfig, make_trial, override
from rdmodels.errors import ConfigError
from rdmodels.results.quality import corner_of
from rdmodels.validation import validate
from sweep.spec.space import Choices, Parameter, Range, corners

GP_MOST_TRIALS = 200
MOST_CHECKED = 2000

SHARED_FIELDS = frozenset(
    {
        "dataset",
        "data_dir",
        "color",
        "train_images",
        "test_images",
        "validation_fraction",
        "validation_images",
        "split_seed",
        "distortion",
    }
)
"""Fields that all trials of a sweep have in common: they see one data set, on one scale."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Search(_Section):
    """How trials are proposed.

    trials: how many in all; for `grid` the default is every point. time_budget_s: stop the sweep
    after this many seconds. seed: two sweeps with one seed and one trial at a time are the same.
    """

    sampler: Literal["tpe", "nsga2", "gp", "random", "grid"] = "tpe"
    trials: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    time_budget_s: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _within_sampler(self) -> Self:
        if self.trials is None and self.sampler != "grid":
            raise ValueError(f"trials must be given for sampler {self.sampler}")
        if self.sampler == "gp" and self.trials is not None and self.trials > GP_MOST_TRIALS:
            raise ValueError(
                f"sampler gp takes at most {GP_MOST_TRIALS} trials, its proposals slow down with"
                f" every one; got {self.trials}: use tpe"
            )
        return self


class Resources(_Section):
    """What each trial takes, and how many run at once.

    gpu may be a fraction: 0.25 puts four trials on one GPU (they share its memory unguarded).
    cpu is the threads of a trial: on the CPU one each, and as many trials as cores, is faster and
    far less hurt by other processes than fewer trials of more (`tests/benchmarks/threads.py`).
    """

    cpu: int = Field(1, ge=1)
    gpu: float = Field(0.0, ge=0)
    concurrent: int = Field(1, ge=1)

    @field_validator("gpu")
    @classmethod
    def _whole_above_one(cls, gpu: float) -> float:
        if gpu > 1 and gpu != int(gpu):
            raise ValueError("must be a fraction of one GPU or a whole number of GPUs")
        return gpu


class HypervolumeReference(_Section):
    """The corner that the hypervolume is measured from: bpp, and the quality that is maximised.

    Without it the corner follows from the space and the images (`sweep.spec.corner`). Give it to
    compare sweeps over different spaces.
    """

    bpp: float = Field(gt=0)
    psnr_db: float | None = None
    ms_ssim_db: float | None = None


class SweepSpec(_Section):
    """A whole sweep.

    trial: fields of TrialConfig that every trial shares. space: fields that are searched, each a
    `Range` or a list of choices.
    """

    name: str
    trial: dict[str, Any] = Field(default_factory=dict)
    space: dict[str, Range | Choices]
    search: Search
    resources: Resources = Resources()
    hypervolume_reference: HypervolumeReference | None = None

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}", name):
            raise ValueError("must be letters, digits, '_', '.' and '-', up to 80 of them")
        return name

    @field_validator("space")
    @classmethod
    def _something_to_search(cls, space: dict[str, Range | Choices]) -> dict[str, Range | Choices]:
        if not space:
            raise ValueError("must have at least one field to search, such as beta: [0.01, 0.1]")
        return space

    @property
    def base(self) -> TrialConfig:
        """The configuration that every trial starts from."""
        # A searched field's own bounds stand in for it: the rest must be valid beside them.
        first = {name: parameter.values()[0] for name, parameter in self.space.items()}
        return make_trial({**self.trial, **first}, where="trial")

    @property
    def num_trials(self) -> int:
        """How many trials the sweep runs unless its time budget ends it."""
        if self.search.sampler == "grid":
            return min(len(self.grid()), self.search.trials or len(self.grid()))
        assert self.search.trials is not None
        return self.search.trials

    def grid(self) -> list[dict[str, Any]]:
        """Every point of the grid, for sampler `grid`, the last field varying fastest."""
        columns = [parameter.grid() for parameter in self.space.values()]
        return [dict(zip(self.space, point, strict=True)) for point in itertools.product(*columns)]

    def extremes(self) -> list[TrialConfig]:
        """The trial at every corner of the space, deduplicated."""
        return [override(self.base, corner) for corner in corners(self.space)]


def make_spec(values: Mapping[str, Any]) -> SweepSpec:
    """Validate `values` into a SweepSpec, with every extreme of its space a valid trial.

    Raises:
        ConfigError: naming the field, the value and the way out.
    """
    spaces = values.get("space")
    if isinstance(spaces, Mapping):
        parameters: dict[str, Parameter] = {}
        for name, value in spaces.items():
            parameters[str(name)] = _parameter(str(name), value)
        values = {**values, "space": parameters}
    spec = validate(SweepSpec, values)
    shared = sorted(set(spec.trial) & set(spec.space))
    if shared:
        raise ConfigError(
            f"{shared[0]} is in trial ({spec.trial[shared[0]]!r}) and in space: leave it in one"
            f" (--set trial.{shared[0]}=null removes it)"
        )
    for name, parameter in spec.space.items():
        others = {n: p.values()[0] for n, p in spec.space.items() if n != name}
        for value in parameter.samples(MOST_CHECKED):
            try:
                make_trial({**spec.trial, **others, name: value})
            except ConfigError as error:
                # An error of the shared fields is reported as theirs.
                make_trial(spec.trial, where="trial")
                raise ConfigError(f"space.{name}: {value!r} is out of range: {error}") from error
        if spec.search.sampler == "grid":
            try:
                parameter.grid()
            except ValueError as error:
                raise ConfigError(f"space.{name}: {error}") from error
    spec.extremes()
    if spec.hypervolume_reference is not None:
        try:
            given = spec.hypervolume_reference.model_dump(exclude_none=True)
            corner_of(given, spec.base.distortion)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    return spec


def _parameter(name: str, value: Any) -> Parameter:
    where = f"space.{name}"
    if name not in TrialConfig.model_fields:
        # The trial's own validation names the nearest field.
        make_trial({name: value}, where="space")
    if name in SHARED_FIELDS:
        raise ConfigError(
            f"{where}: {name} is the same in all trials of a sweep, got {value!r}: put it in trial"
            " and launch a sweep for each value"
        )
    if isinstance(value, Range | Choices):
        return value
    if isinstance(value, list):
        return validate(Choices, {"choices": value}, where=where)
    if isinstance(value, Mapping):
        annotation = TrialConfig.model_fields[name].annotation
        integer = annotation in (int, int | None)
        if not integer and annotation not in (float, float | None):
            raise ConfigError(f"{where} takes a list of choices, not a range, got {value!r}")
        return validate(Range, {**value, "integer": integer}, where=where)
    raise ConfigError(
        f"{where} must be a list of choices or a range such as"
        f" {{low: 0.001, high: 0.1, log: true}}, got {value!r}; a fixed value belongs in trial"
    )
