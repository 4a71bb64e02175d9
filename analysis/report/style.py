"""How the plotly figures look.

Every figure is drawn as SVG, which needs no WebGL, prints sharply and shows values on hover. The
colours are Okabe and Ito's, told apart by readers of every colour vision and in grey print.
"""

import plotly.graph_objects as go

BLUE, VERMILLION, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
INK, MUTED, RULE = "#1f2328", "#9aa1a9", "#e6e8eb"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
AXIS = {
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
        "xaxis": AXIS,
        "yaxis": AXIS,
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


def new_figure(x: str, y: str) -> go.Figure:
    """A figure without traces, its axes titled."""
    layout = {"template": TEMPLATE, "xaxis": {"title": {"text": x}}}
    return go.Figure(layout=layout | {"yaxis": {"title": {"text": y}}})
