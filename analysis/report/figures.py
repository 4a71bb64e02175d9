"""Plotly figures of a sweep: the R-D plane and what each searched field does to it.

Every figure is drawn as SVG, which needs no WebGL, prints sharply and shows values on hover. The
colours are Okabe and Ito's, told apart by readers of every colour vision and in grey print.
"""

import html
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.frontier import frontier
from analysis.report.formats import (
    MISSING,
    SPLITS,
    is_missing,
    label,
    records,
    shown,
    split_column,
)
from analysis.report.scale import Scale
from rdmodels.results.quality import quality_db, quality_of

BLUE, VERMILLION, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
INK, MUTED, RULE = "#1f2328", "#9aa1a9", "#e6e8eb"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
RATE = "rate, bpp"
_AXIS = {
    "showline": True,
    "linecolor": "#8c939b",
    "linewidth": 1,
    "ticks": "outside",
    "tickcolor": "#8c939b",
    "ticklen": 4,
    "gridcolor": RULE,
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 10},
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "colorway": [BLUE, VERMILLION, GREEN, PURPLE, ORANGE],
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": "white",
            "bordercolor": "#8c939b",
            "font": {"family": FONT, "color": INK},
        },
    }
)


def rd_figure(trials: pd.DataFrame, fields: Sequence[str], distortion: str) -> go.Figure:
    """Rate against quality: every complete trial, and the frontier with its test figures.

    Trials that are not complete are traces of their own, off until the legend turns them on:
    their figures are those of unfinished training.
    """
    members = frontier(trials, distortion)
    complete = trials[trials["status"] == "complete"]
    others = complete[~complete["trial_id"].isin(members["trial_id"])]
    figure = _figure(RATE, quality_of(distortion).label)
    for status, symbol in (("pruned", "x-thin"), ("stopped", "cross-thin"), ("failed", "y-up")):
        part = trials[(trials["status"] == status) & trials["val_bpp_estimated"].notna()]
        if len(part):
            # Unfinished trials have written nothing: their rate is the estimate.
            part = part.assign(val_bpp=part["val_bpp_estimated"])
            marker = {"symbol": symbol, "size": 7, "line": {"width": 1.2, "color": MUTED}}
            points = _points(part, fields, distortion, "val", marker=marker, name=status)
            figure.add_trace(points.update(visible="legendonly"))
    grey = {"size": 7, "color": MUTED, "opacity": 0.65}
    figure.add_trace(_points(others, fields, distortion, "val", marker=grey, name="dominated"))
    hollow = {"symbol": "circle-open", "size": 9, "color": VERMILLION, "line": {"width": 1.6}}
    test = _points(
        members, fields, distortion, "test", marker=hollow, name="frontier, test images"
    )
    solid = {"size": 9, "color": BLUE, "line": {"width": 1, "color": "white"}}
    best = _points(members, fields, distortion, "val", marker=solid, name="frontier, validation")
    best.update(mode="lines+markers", line={"color": BLUE, "width": 2})
    figure.add_traces([best, test])
    return figure


def parallel_figure(trials: pd.DataFrame, fields: Sequence[str], distortion: str) -> go.Figure:
    """Parallel coordinates: a line a complete trial, over the fields, rate and quality.

    Lines of frontier trials are coloured by rate, from low (dark) to high (light).
    """
    quality = quality_of(distortion)
    complete = trials[trials["status"] == "complete"].copy()
    complete[quality.label] = _quality(complete, "val", distortion)
    members = frontier(complete, distortion)
    scales = {name: Scale(complete[name]) for name in [*fields, "val_bpp", quality.label]}
    titles = [*(wrapped(name) for name in fields), RATE, quality.label]
    figure = _figure("", "")
    rest = complete[~complete["trial_id"].isin(members["trial_id"])]
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


def field_figure(trials: pd.DataFrame, field: str, distortion: str) -> go.Figure:
    """One searched field against rate (below) and quality (above), over the complete trials."""
    complete = trials[trials["status"] == "complete"]
    members = frontier(trials, distortion)
    rest = complete[~complete["trial_id"].isin(members["trial_id"])]
    figure = _figure(field, RATE)
    for part, colour, size in ((rest, MUTED, 6), (members, BLUE, 8)):
        hover = [_hover(row, [field]) for row in records(part)]
        x = [None if is_missing(value) else value for value in part[field].tolist()]
        x = [str(value) if isinstance(value, bool) else value for value in x]
        marker = {"size": size, "color": colour, "line": {"width": 0.5, "color": "white"}}
        for axis, y in (("y", _plain(part["val_bpp"])), ("y2", _quality(part, "val", distortion))):
            points = go.Scatter(
                x=x, y=y, yaxis=axis, mode="markers", marker=marker, hovertext=hover
            )
            figure.add_trace(points.update(hoverinfo="text", showlegend=False))
    scale = Scale(trials[field])
    if scale.log:
        figure.update_xaxes(type="log", dtick=1)
    if scale.numeric and scale.is_narrow:
        figure.update_xaxes(tickvals=scale.marks(), ticktext=[f"{v:.3g}" for v in scale.marks()])
    return figure.update_layout(
        yaxis={"domain": [0, 0.47], "rangemode": "tozero"},
        yaxis2={**_AXIS, "domain": [0.53, 1], "title": {"text": quality_of(distortion).label}},
        xaxis={"anchor": "y"},
    )


def models_figure(models: pd.DataFrame) -> go.Figure:
    """Rate against PSNR of models trained one by one, on test images; a line a data set."""
    figure = _figure(RATE, label("test_psnr_db"))
    symbols = ("circle", "square", "diamond", "triangle-up", "cross")
    ascending = models.sort_values("test_bpp")
    for index, (dataset, part) in enumerate(ascending.groupby("dataset", sort=True)):
        names = [html.escape(str(name)) for name in part["model"]]
        figure.add_trace(
            go.Scatter(
                x=_plain(part["test_bpp"]),
                y=_plain(part["test_psnr_db"]),
                name=html.escape(str(dataset)),
                mode="lines+markers+text" if len(models) <= 12 else "lines+markers",
                line={"width": 1, "dash": "dot"},
                marker={"size": 9, "symbol": symbols[index % len(symbols)]},
                text=names,
                textposition="bottom right",
                textfont={"size": 11},
                hovertext=[_model_hover(row) for row in records(part)],
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


def wrapped(name: str) -> str:
    """A long field name on several lines, broken after its underscores."""
    name = html.escape(name)
    return name if len(name) <= 12 else name.replace("_", "_<br>")


def _figure(x: str, y: str) -> go.Figure:
    layout = {"template": TEMPLATE, "xaxis": {"title": {"text": x}}}
    return go.Figure(layout=layout | {"yaxis": {"title": {"text": y}}})


def _points(
    trials: pd.DataFrame, fields: Sequence[str], distortion: str, split: str, **style: Any
) -> go.Scatter:
    return go.Scatter(
        x=_plain(trials[f"{split}_bpp"]),
        y=_quality(trials, split, distortion),
        customdata=trials["trial_id"].tolist(),
        mode="markers",
        hovertext=[_hover(row, fields) for row in records(trials)],
        hoverinfo="text",
        **style,
    )


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
        hover += [_hover(row, fields)] * (len(scales) + 1)
    return go.Scatter(x=x, y=y, mode="lines", hovertext=hover, hoverinfo="text", **style)


def _hover(row: dict[str, Any], fields: Sequence[str]) -> str:
    """The trial, its searched fields and every figure it has, validation (test)."""
    lines = [f"<b>{html.escape(str(row['trial_id']))}</b>  {html.escape(str(row['status']))}"]
    lines += [f"{name} = {html.escape(shown(name, row[name]))}" for name in fields]
    lines.append("<i>validation / test</i>")
    for column in row:
        split, name = split_column(column)
        texts = [shown(f"{each}_{name}", row.get(f"{each}_{name}")) for each in SPLITS]
        if split == "val" and texts != [MISSING] * len(SPLITS):
            lines.append(f"{label(column)}: {' / '.join(texts)}")
    return "<br>".join(lines)


def _model_hover(row: dict[str, Any]) -> str:
    values = [
        f"{label(column) if split_column(column)[0] else column}: {shown(column, value)}"
        for column, value in row.items()
        if column != "model" and not is_missing(value)
    ]
    return "<br>".join([f"<b>{html.escape(str(row['model']))}</b>", *map(html.escape, values)])


def _plain(values: "pd.Series[Any]") -> list[float | None]:
    return [None if is_missing(value) else float(value) for value in values.tolist()]


def _quality(trials: pd.DataFrame, split: str, distortion: str) -> list[float | None]:
    values = _plain(trials[f"{split}_{quality_of(distortion).name}"])
    return [quality_db(value, distortion) for value in values]


def _viridis(share: float) -> str:
    # The last sixth of the scale is too pale for white paper.
    from plotly.colors import sample_colorscale

    colour: str = sample_colorscale("Viridis", [0.83 * share])[0]
    return colour
