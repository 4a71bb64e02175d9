"""The searched fields: ranges and choices from YAML, and their Optuna distributions."""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

import optuna
from pydantic import BaseModel, ConfigDict, Field, model_validator

Scalar = bool | int | float | str


class Range(BaseModel):
    """All values between two bounds, both included.

    log: search the logarithm. step: grid of the values (integers: 1 unless given). points: how
    many values the `grid` sampler takes, evenly spaced (in the logarithm for a log range).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: float
    high: float
    log: bool = False
    step: float | None = Field(None, gt=0)
    points: int | None = Field(None, ge=2)
    integer: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(
                f"low must be less than high, got low {self.low:g}, high {self.high:g}"
                " (a fixed value belongs in trial)"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"a log range needs low above 0, got {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError(f"a log range takes no step, got {self.step:g}")
        if self.integer and not all(
            value == int(value) for value in (self.low, self.high, self.step or 1)
        ):
            raise ValueError(
                f"this field takes whole numbers, got low {self.low:g}, high {self.high:g}"
            )
        return self

    def values(self) -> list[int | float]:
        """The bounds, lowest first."""
        return [self._typed(self.low), self._typed(self.high)]

    def samples(self, most: int) -> list[int | float]:
        """Values to check: all whole numbers of the range, up to `most`, or else its bounds."""
        step = int(self.step or 1)
        if not self.integer or (self.high - self.low) / step > most:
            return self.values()
        return list(range(int(self.low), int(self.high) + 1, step))

    def grid(self) -> list[int | float]:
        """Evenly spaced values, for the `grid` sampler.

        Raises:
            ValueError: if neither `points` nor `step` says how many.
        """
        if self.points is None and self.step is None:
            raise ValueError(
                f"sampler grid needs a list of choices, or points: N in the range"
                f" from {self.low:g} to {self.high:g}"
            )
        if self.points is None:
            assert self.step is not None
            count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
            return [self._typed(self.low + i * self.step) for i in range(count)]
        shares = [i / (self.points - 1) for i in range(self.points)]
        if self.log:
            ratio = self.high / self.low
            values = [self.low * ratio**share for share in shares]
        else:
            values = [self.low + (self.high - self.low) * share for share in shares]
        return list(dict.fromkeys(self._typed(value) for value in values))

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """As Optuna sees it."""
        if self.integer:
            return optuna.distributions.IntDistribution(
                int(self.low), int(self.high), log=self.log, step=int(self.step or 1)
            )
        return optuna.distributions.FloatDistribution(
            self.low, self.high, log=self.log, step=self.step
        )

    def _typed(self, value: float) -> int | float:
        return round(value) if self.integer else float(value)


class Choices(BaseModel):
    """A list of values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choices: tuple[Scalar, ...]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.choices:
            raise ValueError("a list of choices must not be empty")
        if len(set(self.choices)) < len(self.choices):
            raise ValueError(f"choices must differ from each other, got {list(self.choices)}")
        return self

    def values(self) -> list[Scalar]:
        """Every choice, in the given order."""
        return list(self.choices)

    def samples(self, most: int) -> list[Scalar]:
        """Values to check: every choice."""
        return list(self.choices)

    def grid(self) -> list[Scalar]:
        """Every choice, in the given order."""
        return list(self.choices)

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """As Optuna sees it."""
        return optuna.distributions.CategoricalDistribution(self.choices)


Parameter = Range | Choices


def distributions(
    space: Mapping[str, Parameter],
) -> dict[str, optuna.distributions.BaseDistribution]:
    """Optuna's distribution of each searched field."""
    return {name: parameter.distribution() for name, parameter in space.items()}


def corners(space: Mapping[str, Parameter]) -> Iterable[dict[str, Any]]:
    """Every combination of each field's extremes: its bounds, or its least and greatest choice."""
    ends = []
    for parameter in space.values():
        values: list[Any] = parameter.values()
        if not any(isinstance(value, str) for value in values):
            values = sorted({min(values), max(values)})
        ends.append(values)
    return (dict(zip(space, corner, strict=True)) for corner in itertools.product(*ends))
