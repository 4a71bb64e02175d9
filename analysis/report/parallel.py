"""Parallel coordinates: how the searched fields lead to rate and quality."""

import html
import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from analysis.frontier import dominated, frontier
from analysis.report.figures import rate_title
from analysis.report.formats import records
from analysis.report.hover import trial_hover
from analysis.report.scale import Scale
from analysis.report.style import new_figure
from rdmodels.results.quality import quality_of

TITLE_WIDTH = 16
"""Letters of a line of an axis's title."""


def parallel_figure(trials: pd.DataFrame, fields: Sequence[str], distortion: str) -> go.Figure:
    """Parallel coordinates: a line a complete trial, over the fields, rate and quality.

    Lines of frontier trials are coloured by rate, from low (dark) to high (light).
    """
    quality = quality_of(distortion)
    complete = trials[trials["status"] == "complete"]
    members = frontier(complete, distortion)
    columns = [*fields, "val_bpp", f"val_{quality.name}"]
    scales = {name: Scale(complete[name]) for name in columns}
    rate = "<br>".join(textwrap.wrap(rate_title(trials), TITLE_WIDTH))
    titles = [*(wrapped(name) for name in fields), rate, quality.label]
    figure = new_figure("", "")
    rest = dominated(complete, members)
    grey = {"color": "#c4c9ce", "width": 1}
    if len(rest):
        figure.add_trace(_lines(rest, scales, fields, line=grey, name="dominated"))
    for index in range(len(members)):
        colour = _viridis(index / max(1, len(members) - 1))
        part = members.iloc[[index]]
        style = {"color": colour, "width": 2.2}
        line = _lines(part, scales, fields, line=style, name="frontier")
        figure.add_trace(line.update(legendgroup="frontier", showlegend=index == 0))
    for position, (title, scale) in enumerate(zip(titles, scales.values(), strict=True)):
        ends = {"x0": position, "x1": position, "y0": 0, "y1": 1}
        figure.add_shape(type="line", line={"color": "#8c939b", "width": 1}, layer="below", **ends)
        at = {"x": position, "xanchor": "center", "yanchor": "bottom", "showarrow": False}
        figure.add_annotation(y=1.05, text=f"<b>{title}</b>", **at)
        for text, y in scale.ticks():
            tick = {"xanchor": "left", "yanchor": "middle", "xshift": 3, "font": {"size": 11}}
            figure.add_annotation(
                y=y, text=html.escape(text), bgcolor="rgba(255,255,255,0.8)", **(at | tick)
            )
    lines = 1 + max(title.count("<br>") for title in titles)
    figure.update_xaxes(visible=False, range=[-0.15, len(scales) - 0.55], fixedrange=True)
    figure.update_yaxes(visible=False, range=[-0.04, 1.1 + 0.06 * lines], fixedrange=True)
    return figure.update_layout(legend={"y": -0.02, "yanchor": "top"})


def wrapped(name: str) -> str:
    """A long field name on several lines, broken after its underscores."""
    name = html.escape(name)
    return name if len(name) <= 12 else name.replace("_", "_<br>")


def _lines(
    trials: pd.DataFrame,
    scales: dict[str, Scale],
    fields: Sequence[str],
    **style: Any,
) -> go.Scatter:
    """All trials' lines as one trace, a gap between two trials."""
    x: list[int | None] = []
    y: list[float | None] = []
    hover: list[str] = []
    for row in records(trials):
        x += [*range(len(scales)), None]
        y += [*(scale.position(row[name]) for name, scale in scales.items()), None]
        hover += [trial_hover(row, fields)] * (len(scales) + 1)
    return go.Scatter(x=x, y=y, mode="lines", hovertext=hover, hoverinfo="text", **style)


def _viridis(fraction: float) -> str:
    # The last sixth of the scale is too pale for white paper.
    colour: str = sample_colorscale("Viridis", [0.83 * fraction])[0]
    return colour
