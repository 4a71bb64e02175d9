"""Axes for the values of one column: linear, logarithmic, or a place for each level."""

import math
from typing import Any

import pandas as pd

from analysis.report.formats import is_missing

LOG_FROM_RATIO = 8.0
"""A positive range is drawn on a log axis if its ends are this many times apart."""
MOST_LEVELS = 6
"""Up to this many choices each get a mark of their own."""


class Scale:
    """Puts a column's values on 0 … 1: numbers linear or log, anything else evenly spaced."""

    def __init__(self, values: "pd.Series[Any]") -> None:
        known = {value for value in values.tolist() if not is_missing(value)}
        self.numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in known)
        self.levels = sorted(known, key=lambda value: value if self.numeric else str(value))
        positive = self.numeric and bool(known) and self.levels[0] > 0
        self.log = positive and self.levels[-1] / self.levels[0] >= LOG_FROM_RATIO

    @property
    def has_choices(self) -> bool:
        """Whether the values are a few that someone chose: words, integers, short numbers."""
        if not self.numeric or len(self.levels) == 1:
            return True
        short = (isinstance(v, int) or float(f"{v:.2g}") == v for v in self.levels)
        return len(self.levels) <= MOST_LEVELS and all(short)

    @property
    def needs_own_marks(self) -> bool:
        """Whether plotly's own marks would miss the choices, or be too few on a log axis."""
        if self.has_choices:
            return True
        return self.log and math.log10(self.levels[-1] / self.levels[0]) <= 1.5

    def position(self, value: Any) -> float | None:
        """Where a value lies; None if it is missing."""
        if is_missing(value):
            return None
        if not self.numeric:
            return self._fraction(self.levels.index(value), 0, len(self.levels) - 1)
        ends = self.levels[0], self.levels[-1]
        return self._fraction(*(math.log(each) if self.log else each for each in (value, *ends)))

    def marks(self) -> list[Any]:
        """The values to label: every choice, or round ones within the range."""
        if self.has_choices or not self.levels:
            return self.levels
        low, high = self.levels[0], self.levels[-1]
        if self.log:
            decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            steps = (1,) if len(decades) > 4 else (1, 2, 5)
            candidates = [step * 10.0**decade for decade in decades for step in steps]
        else:
            power = 10.0 ** math.floor(math.log10((high - low) / 4))
            step = next(s * power for s in (1, 2, 5, 10) if (high - low) / (s * power) <= 6)
            candidates = [(math.ceil(low / step) + index) * step for index in range(8)]
        return [value for value in candidates if low <= value <= high]

    def ticks(self) -> list[tuple[str, float]]:
        """Texts and positions of the marks."""
        text = "{:.3g}".format if self.numeric else str
        places = [(text(value), self.position(value)) for value in self.marks()]
        return [(each, place) for each, place in places if place is not None]

    @staticmethod
    def _fraction(value: float, low: float, high: float) -> float:
        return 0.5 if high == low else (value - low) / (high - low)
