"""Plotly figures of rate and quality: the R-D plane, each searched field, single models."""

import html
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.frontier import dominated, frontier
from analysis.report.formats import is_missing, label, numbers, records, shares_streams
from analysis.report.hover import model_hover, trial_hover
from analysis.report.scale import Scale
from analysis.report.style import AXIS, BLUE, MUTED, VERMILLION, new_figure
from rdmodels.results.quality import quality_of


def rd_figure(trials: pd.DataFrame, fields: Sequence[str], distortion: str) -> go.Figure:
    """Rate against quality: every complete trial, and the frontier with its test figures.

    Trials that are not complete are traces of their own, off until the legend turns them on:
    their figures are those of unfinished training, their rate is the estimate.
    """
    quality = quality_of(distortion)
    members = frontier(trials, distortion)
    figure = new_figure(rate_title(trials), quality.label)

    def points(part: pd.DataFrame, rate: str, split: str, **style: Any) -> go.Scatter:
        hover = [trial_hover(row, fields) for row in records(part)]
        return go.Scatter(
            x=numbers(part[rate]),
            y=numbers(part[f"{split}_{quality.name}"]),
            customdata=part["trial_id"].tolist(),
            mode="markers",
            hovertext=hover,
            hoverinfo="text",
            **style,
        )

    for status, symbol in (("pruned", "x-thin"), ("stopped", "cross-thin"), ("failed", "y-up")):
        part = trials[(trials["status"] == status) & trials["val_bpp_estimated"].notna()]
        if len(part):
            marker = {"symbol": symbol, "size": 7, "line": {"width": 1.2, "color": MUTED}}
            name = f"{status}, estimated rate"
            trace = points(part, "val_bpp_estimated", "val", marker=marker, name=name)
            figure.add_trace(trace.update(visible="legendonly"))
    grey = {"size": 7, "color": MUTED, "opacity": 0.65}
    rest = dominated(trials, members)
    figure.add_trace(points(rest, "val_bpp", "val", marker=grey, name="dominated"))
    solid = {"size": 9, "color": BLUE, "line": {"width": 1, "color": "white"}}
    validation = points(members, "val_bpp", "val", marker=solid, name="frontier, validation")
    validation.update(mode="lines+markers", line={"color": BLUE, "width": 2})
    hollow = {"symbol": "circle-open", "size": 9, "color": VERMILLION, "line": {"width": 1.6}}
    test = points(members, "test_bpp", "test", marker=hollow, name="frontier, test images")
    figure.add_traces([validation, test])
    return figure


def rate_title(frame: pd.DataFrame) -> str:
    """Title of an axis of rates: what they are, and whether images share streams."""
    return label("bpp", shared=shares_streams(records(frame)))


def field_figure(trials: pd.DataFrame, field: str, distortion: str) -> go.Figure:
    """One searched field against rate (below) and quality (above), over the complete trials."""
    members = frontier(trials, distortion)
    rest = dominated(trials, members)
    quality = quality_of(distortion)
    figure = new_figure(field, rate_title(trials))
    for part, colour, size in ((rest, MUTED, 6), (members, BLUE, 8)):
        hover = [trial_hover(row, [field]) for row in records(part)]
        x = [None if is_missing(value) else value for value in part[field].tolist()]
        x = [str(value) if isinstance(value, bool) else value for value in x]
        marker = {"size": size, "color": colour, "line": {"width": 0.5, "color": "white"}}
        for axis, column in (("y", "val_bpp"), ("y2", f"val_{quality.name}")):
            points = go.Scatter(
                x=x,
                y=numbers(part[column]),
                yaxis=axis,
                mode="markers",
                marker=marker,
                hovertext=hover,
            )
            figure.add_trace(points.update(hoverinfo="text", showlegend=False))
    scale = Scale(trials[field])
    if scale.log:
        figure.update_xaxes(type="log", dtick=1)
    if scale.numeric and scale.needs_own_marks:
        figure.update_xaxes(tickvals=scale.marks(), ticktext=[f"{v:.3g}" for v in scale.marks()])
    return figure.update_layout(
        yaxis={"domain": [0, 0.47], "rangemode": "tozero"},
        yaxis2={**AXIS, "domain": [0.53, 1], "title": {"text": quality.label}},
        xaxis={"anchor": "y"},
    )


def models_figure(models: pd.DataFrame) -> go.Figure:
    """Rate against PSNR of models trained one by one, on test images; a line a data set."""
    figure = new_figure(rate_title(models), label("psnr_db"))
    symbols = ("circle", "square", "diamond", "triangle-up", "cross")
    ascending = models.sort_values("test_bpp")
    for index, (dataset, part) in enumerate(ascending.groupby("dataset", sort=True)):
        names = [html.escape(str(name)) for name in part["model"]]
        figure.add_trace(
            go.Scatter(
                x=numbers(part["test_bpp"]),
                y=numbers(part["test_psnr_db"]),
                name=html.escape(str(dataset)),
                mode="lines+markers+text" if len(models) <= 12 else "lines+markers",
                line={"width": 1, "dash": "dot"},
                marker={"size": 9, "symbol": symbols[index % len(symbols)]},
                text=names,
                textposition="bottom right",
                textfont={"size": 11},
                hovertext=[model_hover(row) for row in records(part)],
                hoverinfo="text",
                showlegend=True,
            )
        )
    if models["test_bpp"].notna().any():
        # Room on the right for the last point's name.
        low, high = models["test_bpp"].min(), models["test_bpp"].max()
        span = float(high - low) or float(high)
        figure.update_xaxes(range=[float(low) - 0.06 * span, float(high) + 0.2 * span])
    return figure
