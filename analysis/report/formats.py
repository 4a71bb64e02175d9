"""Figures as a reader sees them: digits, units and names by what a column holds."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from analysis.store.columns import FIGURES

MISSING = "–"

LABELS = {
    "bpp": "rate, bpp (bytes written)",
    "bpp_standalone": "bpp standalone (a stream each)",
    "bpp_estimated": "bpp estimated (cross-entropy)",
    "bits_per_symbol_estimated": "bits per symbol estimated",
    "psnr_db": "PSNR, dB",
    "mse": "MSE",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "ms_ssim_db": "MS-SSIM, dB",
    "rate_over_target": "rate over target",
    "importance": "importance",
    "centers_used": "centers used",
    "symbol_entropy": "bits per symbol without context",
    "train_seconds": "training time",
    "training_share": "share of steps",
    "epochs_done": "epochs done",
    "trial_id": "trial",
}
SHARED_RATE = "rate, bpp (bytes written, shared streams)"
SPLITS = {"val": "validation", "test": "test"}


def split_column(column: str) -> tuple[str | None, str]:
    """`val_bpp` -> (`val`, `bpp`); a column that is no figure of a split has None."""
    split, _, name = column.partition("_")
    return (split, name) if split in SPLITS and name in FIGURES else (None, column)


def label(column: str, *, shared: bool = False) -> str:
    """A column's heading without its split, with the unit.

    Args:
        column: a figure or another column that is no searched field.
        shared: whether images share streams, which the rate's label says then.
    """
    name = split_column(column)[1]
    if shared and name == "bpp":
        return SHARED_RATE
    return LABELS.get(name, name.replace("_", " "))


def shares_streams(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether images share streams: some rate is not that of a stream for every image."""
    for row in rows:
        for split in SPLITS:
            rates = [row.get(f"{split}_{name}", math.nan) for name in ("bpp", "bpp_standalone")]
            if not any(map(is_missing, rates)) and not math.isclose(*rates):
                return True
    return False


def shown(column: str, value: Any) -> str:
    """`value` with the digits that its column deserves; a dash if it is missing."""
    if is_missing(value):
        return MISSING
    split, name = split_column(column)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    for part, text in DIGITS.items():
        if part in name.split("_"):
            return text(value)
    if isinstance(value, int):
        return str(value)
    return f"{value:.3g}" if split is None else significant(value, 4)


def significant(value: float, digits: int) -> str:
    """`value` with that many significant digits, zeros at its end kept."""
    return f"{value:#.{digits}g}".removesuffix(".")


def duration(seconds: float) -> str:
    """Seconds in the two units that matter."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def spread(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` things, evenly spread, both ends included."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def is_missing(value: Any) -> bool:
    """Whether `value` stands for no value."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as mappings of Python values by column."""
    rows = frame.astype(object).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def numbers(values: "pd.Series[Any]") -> list[float | None]:
    """The values as floats, None where one is missing, as plotly takes them."""
    return [None if is_missing(value) else float(value) for value in values.tolist()]


DIGITS: dict[str, Callable[[float], str]] = {
    "seconds": duration,
    "share": "{:.0%}".format,
    "importance": "{:.1%}".format,
    "over": "{:.3f}".format,
    "db": "{:.2f}".format,
    "ssim": "{:.4f}".format,
    "mse": "{:.3g}".format,
    "bpp": lambda value: significant(value, 4),
}
"""How a figure is written, by a word of its name."""
