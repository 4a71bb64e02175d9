"""Building blocks of the HTML pages: templates, tables, plots and pictures, all in one file.

A page opens from disk without a network: the plotting library, styles, scripts and pictures lie in
it, and its content security policy forbids any request. Every text is escaped by the template.
"""

import base64
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from analysis.report.columns import caption_figures
from analysis.report.formats import (
    SPLITS,
    is_missing,
    label,
    records,
    shares_streams,
    shown,
    split_column,
)

MOST_PICTURES = 12
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SMALL_WIDTH = 700
"""Pictures narrower than this, px, are enlarged pixel by pixel."""

UNITS = {
    "bpp": "bpp",
    "bpp_standalone": "bpp standalone",
    "bpp_estimated": "bpp estimated",
    "psnr_db": "dB",
    "ms_ssim_db": "dB MS-SSIM",
}
"""What stands behind a figure in a caption; others have their name before it."""

PLOT_CONFIG = {
    "responsive": True,
    "displaylogo": False,
    # Named one by one: plotly's own choice has a button that uploads the plot.
    "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
}


class Cell(NamedTuple):
    """A cell's text and what it is sorted by; an empty key sorts last in both directions."""

    text: str
    key: str


class Column(NamedTuple):
    """A column of a table. `code` says that its heading is a name to be typed as it is."""

    name: str
    label: str
    numeric: bool
    code: bool


class Table(NamedTuple):
    """A table with the spans of its upper heading, (text, columns), and its rows."""

    id: str
    groups: list[tuple[str, int]]
    columns: list[Column]
    rows: list[list[Cell]]


class Picture(NamedTuple):
    """A PNG inside the page, with what its caption says."""

    name: str
    facts: list[str]
    source: str
    small: bool


def render(template: str, **values: Any) -> str:
    """The page that a template makes of `values`; everything but `Markup` is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plotly = Markup(get_plotlyjs())
    return environment.get_template(template).render(plotly=plotly, **values)


def plot(figure: go.Figure, name: str, height: int) -> Markup:
    """The element and script that draw a figure; `plotly.js` must be in the page already."""
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        default_height=f"{height}px",
        config={**PLOT_CONFIG, "toImageButtonOptions": {"format": "svg", "filename": name}},
    )
    # Made by plotly, which escapes `<`, `>` and `/` in all of a figure's texts.
    return Markup(html)


def table(name: str, frame: pd.DataFrame, columns: Sequence[str], fields: Sequence[str]) -> Table:
    """A table of `columns`; those of `fields` are headed by their exact names."""
    shared = shares_streams(records(frame))
    heads = [
        Column(
            name=column,
            label=column if column in fields else label(column, shared=shared),
            numeric=pd.api.types.is_numeric_dtype(frame[column])
            and not pd.api.types.is_bool_dtype(frame[column]),
            code=column in fields,
        )
        for column in columns
    ]
    spans = groupby(columns, key=lambda column: SPLITS.get(split_column(column)[0] or "", ""))
    rows = [
        [_cell(column, value) for column, value in zip(columns, row, strict=True)]
        for row in frame[list(columns)].astype(object).itertuples(index=False)
    ]
    return Table(name, [(text, len(list(part))) for text, part in spans], heads, rows)


def picture(name: str, facts: Sequence[str], png: bytes) -> Picture:
    """A PNG as a part of the page."""
    width = int.from_bytes(png[16:20]) if png.startswith(PNG_SIGNATURE) else SMALL_WIDTH
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return Picture(name, list(facts), source, width < SMALL_WIDTH)


def facts(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """`name = value` for every name that the row has a value of."""
    return [f"{name} = {shown(name, row[name])}" for name in names if not is_missing(row[name])]


def caption(row: Mapping[str, Any], split: str) -> str:
    """A row's figures of one split with their units, for a caption."""
    texts = []
    for name in caption_figures(row):
        column = f"{split}_{name}"
        value = row.get(column)
        if is_missing(value):
            continue
        figure = shown(column, value)
        texts.append(f"{figure} {UNITS[name]}" if name in UNITS else f"{label(name)} {figure}")
    return f"{SPLITS[split]}: {', '.join(texts) or 'no figures'}"


def _cell(column: str, value: Any) -> Cell:
    if is_missing(value):
        return Cell(shown(column, value), "")
    return Cell(shown(column, value), str(value))
