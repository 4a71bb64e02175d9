"""Figures as a reader sees them: digits, units and names by what a column holds."""

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

MISSING = "–"

LABELS = {
    "bpp": "rate, bpp",
    "psnr_db": "PSNR, dB",
    "mse": "MSE",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "train_seconds": "training time",
    "trial_id": "trial",
}
SPLITS = {"val": "validation", "test": "test"}


def split_column(column: str) -> tuple[str | None, str]:
    """`val_bpp` -> (`val`, `bpp`); a column of no split has None."""
    split, _, name = column.partition("_")
    return (split, name) if split in SPLITS and name else (None, column)


def label(column: str) -> str:
    """A column's heading without its split, with the unit; a searched field is its own name."""
    name = split_column(column)[1]
    return LABELS.get(name, name.replace("_db", ", dB").replace("_", " "))


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
    if seconds < 60:
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


DIGITS: dict[str, Callable[[float], str]] = {
    "seconds": duration,
    "db": "{:.2f}".format,
    "ssim": "{:.4f}".format,
    "mse": "{:.3g}".format,
    "bpp": lambda value: significant(value, 4),
}
"""How a figure is written, by a word of its name."""
