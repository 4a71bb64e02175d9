"""How the numbers of a report are made, in words."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from analysis.report.formats import shares_streams
from rdmodels import metrics

ARCHIVE_RATES = (
    "Rates are those of an archive: images of one size up to 64x64 px share a stream of up to"
    " 1,000, and bpp counts the share of each. Beside it, bpp standalone is with a stream of its"
    " own for every image. Images above 64x64 px always have a stream each."
)
"""Said wherever a rate is shown, if images share streams."""


def conventions() -> list[str]:
    """How rate and quality are measured, from where they are measured."""
    text = inspect.cleandoc(metrics.__doc__ or "")
    return [" ".join(item.split()) for item in text.split("\n- ")[1:]]


def rate_note(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """What a reader must know of the rates in `rows`; None where every image has its stream."""
    return ARCHIVE_RATES if shares_streams(rows) else None
