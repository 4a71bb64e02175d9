"""What a figure says of the trial or the model that a reader points at."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.report.formats import (
    MISSING,
    SPLITS,
    is_missing,
    label,
    shares_streams,
    shown,
    split_column,
)

AT_ESTIMATE = "drawn at its estimated rate: unfinished training has written no bytes"


def trial_hover(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The trial, its searched fields and every figure it has, validation (test)."""
    lines = [f"<b>{html.escape(str(row['trial_id']))}</b>  {html.escape(str(row['status']))}"]
    if row["status"] != "complete":
        lines.append(AT_ESTIMATE)
    lines += [f"{name} = {html.escape(shown(name, row[name]))}" for name in fields]
    lines.append("<i>validation / test</i>")
    shared = shares_streams([row])
    for column in row:
        split, name = split_column(column)
        texts = [shown(f"{each}_{name}", row.get(f"{each}_{name}")) for each in SPLITS]
        if split != "val" or texts == [MISSING] * len(SPLITS) or _is_repeated(name, shared):
            continue
        lines.append(f"{label(column, shared=shared)}: {' / '.join(texts)}")
    return "<br>".join(lines)


def model_hover(row: Mapping[str, Any]) -> str:
    """The model, its settings and every figure it has on test images."""
    lines = [f"<b>{html.escape(str(row['model']))}</b>"]
    shared = shares_streams([row])
    for column, value in row.items():
        split, name = split_column(column)
        if column == "model" or is_missing(value) or _is_repeated(name, shared):
            continue
        title = label(column, shared=shared) if split else column
        lines.append(html.escape(f"{title}: {shown(column, value)}"))
    return "<br>".join(lines)


def _is_repeated(name: str, shared: bool) -> bool:
    """Whether a figure says what the rate has said already."""
    return name == "bpp_standalone" and not shared
